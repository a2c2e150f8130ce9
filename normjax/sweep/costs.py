"""What a sweep's methods take at a real size: `Sweep.costs`.

The sweep's file has, beside `sweep`, a function `large(arg="")`: by the label
of each method the config of the same method at that size. `normjax bench
memory` compiles these; what it found is looked up by their fingerprints.
"""

import dataclasses
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from normjax import configure, errors
from normjax.configure import ConfigDict
from normjax.papers import places
from normjax.record import costs as record

LARGE = "large"


@dataclasses.dataclass(frozen=True)
class Costs:
  """Where the bytes of a sweep's methods are.

  Attributes:
    file: of `normjax bench memory`; one of `experiments/…` is looked for as
      results of papers are: beside the user's config file, in the current
      folder, in ours.
  """

  file: str

  def __post_init__(self):
    """Checks the type."""
    if not isinstance(self.file, str) or not self.file.endswith(".json"):
      raise errors.UserError(
        f"Costs.file is {self.file!r}; allowed: the path of a .json file of"
        " `normjax bench memory`."
      )

  def path(self) -> Path:
    """The file; where it would be made, where there is none."""
    asked = Path(self.file)
    if asked.is_absolute() or asked.parts[:1] != (places.EXPERIMENTS,):
      return asked
    return places.find(*asked.parts[1:]) or asked


def fingerprint(config: ConfigDict) -> str:
  """Of a method's program: rates and numbers of steps are not part of it."""
  from normjax import build  # Late: imports jax.

  return build.program_key(config)


def large(path: str, labels: Iterable[str]) -> dict[str, ConfigDict]:
  """The configs at the real size, by label, in the order of the labels.

  Args:
    path: `file.py` or `file.py:arg` of the sweep.
    labels: of its methods.

  Raises:
    ConfigError: the file has no `large()`, or that fails.
    UserError: it has other labels than the sweep.
  """
  file, arg = configure.split_argument(path)
  module = configure.load_module(file)
  function = getattr(module, LARGE, None)
  if not callable(function):
    raise errors.ConfigError(
      f"config file {file} defines no {LARGE}(): a dict is needed from the"
      " label of each method to its config at the size that is compiled."
    )
  takes_arg = bool(inspect.signature(function).parameters)
  found = errors.located(
    module.__file__ or file, f"{LARGE}() of {file} failed", function
  )(*([arg] if takes_arg and arg else []))
  if not isinstance(found, dict) or not all(
    isinstance(config, ConfigDict) for config in found.values()
  ):
    raise errors.ConfigError(
      f"{LARGE}() of {file} returned {type(found).__name__}; a dict from labels"
      " to configs is needed."
    )
  labels = list(labels)
  for extra, whose, others in (
    ([x for x in found if x not in labels], f"{LARGE}()", "sweep()"),
    ([x for x in labels if x not in found], "sweep()", f"{LARGE}()"),
  ):
    if extra:
      named = errors.few(list(map(str, extra)))
      raise errors.UserError(
        f"{whose} of {path} has {named}, {others} has not; allowed: the same"
        f" labels in both, {errors.few(labels)}."
      )
  return {label: found[label] for label in labels}


def sweep_name(path: str) -> str:
  """What a file of costs says of the sweep's file: its name alone."""
  return Path(configure.split_argument(path)[0]).with_suffix("").name


def check_sweep(file: Path, value: dict[str, Any], path: str) -> None:
  """Raises UserError where a file of costs is of another sweep."""
  if value["sweep"] != sweep_name(path):
    raise errors.UserError(
      f"{file} has sweep={value['sweep']!r}; allowed for {path}:"
      f" {sweep_name(path)!r}."
    )


def look_up(costs: Costs, path: str, labels: Iterable[str]) -> record.Costs:
  """What the file says of the methods of a sweep.

  Args:
    costs: of the sweep.
    path: of the sweep's file.
    labels: of its methods.

  Raises:
    UserError: there is no such file, or it is of another sweep; what `large`
      raises.
  """
  file = costs.path()
  value = record.read(file)
  command = f"normjax bench memory {path}"
  if value is None:
    raise errors.UserError(
      f"Sweep.costs: no file {costs.file!r}; allowed: one that `{command}`"
      " makes."
    )
  check_sweep(file, value, path)
  methods, missing = {}, {}
  for label, config in large(path, labels).items():
    entry = value["methods"].get(label)
    if entry is None:
      missing[label] = "not compiled"
    elif entry["fingerprint"] != fingerprint(config):
      missing[label] = "compiled with another config"
    elif "error" in entry:
      missing[label] = entry["error"]
    else:
      methods[label] = record.cost(entry)
  return record.Costs(
    costs.file, value["target"], value["model"], methods, missing
  )
