"""Which sweep tries what."""

import functools
from collections import defaultdict
from pathlib import Path
from typing import Any

from normjax import configure


def files() -> list[Path]:
  """The sweep files of configs/sweeps and configs/papers.

  Papers' tables whose numbers are computed have no sweep.
  """
  found = []
  for folder in ("sweeps", "papers"):
    found += sorted((configure.configs_dir() / folder).glob("*.py"))
  return [f for f in found if hasattr(configure.load_module(f), "sweep")]


@functools.cache
def spec(file: Path) -> Any:
  """The `Sweep` of a file."""
  return configure.load_module(file).sweep()


@functools.cache
def users(key: str) -> dict[str, list[Path]]:
  """What the methods of sweeps have at a key, and the sweeps' files.

  Args:
    key: dotted, such as "norm.name"; options of a value are left out.
  """
  found: dict[str, list[Path]] = defaultdict(list)
  for file in files():
    base = dict(configure.leaves(configure.to_dict(configure.load(file))))
    for method in spec(file).methods:
      value = str(method.get(key, base.get(key, ""))).partition("(")[0]
      if file not in found[value]:
        found[value].append(file)
  return found
