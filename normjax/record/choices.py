"""What a sweep has chosen for good: which programs' runs train side by side.

    <out>/population/<program>.json     {"together": …, and what it was made by}

The first one who chooses is right; whoever comes later reads.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normjax import errors
from normjax.record import files

POPULATION = "population"


def read(out: Path, program: str) -> Mapping[str, Any] | None:
  """The choice of a program; None where none, or a damaged one, is there."""
  try:
    found = files.read_json(_path(out, program))
  except errors.RunError:
    return None
  is_choice = isinstance(found, dict) and type(found.get("together")) is bool
  return found if is_choice else None


def write(out: Path, program: str, choice: Mapping[str, Any]) -> None:
  """Keeps a choice, unless another process was first."""
  path = _path(out, program)
  made = files.create_text(path, json.dumps(files.finite(choice), indent=2))
  if not made and read(out, program) is None:  # It is damaged.
    files.write_json(path, choice)


def _path(out: Path, program: str) -> Path:
  return out / POPULATION / f"{program}.json"
