"""The folder of the config file that a command was given: a user's own parts.

Of a file in `configs/sweeps`, or in another folder of `configs`, it is the one
that `configs` is in. Where the file is one of ours, it is the current folder.
Python finds the modules there, after all that it finds elsewhere, and a folder
`configs` there comes before ours. A child process is told by its environment.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_VARIABLE = "NORMJAX_CONFIG_FILE"
_told = os.environ.get(_VARIABLE)
_place: Path | None = Path(_told) if _told else None


def search(place: Path | None) -> None:
  """Looks for a user's parts there from now on.

  Args:
    place: the user's config file, a folder, or None for nowhere.
  """
  global _place
  _place = None if place is None else place.resolve()
  file = config_file()
  for here in filter(None, (folder(), file and file.parent)):
    if str(here) not in sys.path:
      sys.path.append(str(here))
      importlib.invalidate_caches()  # It may be new.


def config_file() -> Path | None:
  """The config file, as far as there is one that is not ours."""
  return None if _place is None or _place.is_dir() else _place


def folder() -> Path | None:
  """Where a user's parts are looked for."""
  file = config_file()
  if file is None:
    return _place
  is_inside = len(file.parents) > 2 and file.parents[1].name == "configs"
  return file.parents[2] if is_inside else file.parent


def environment() -> dict[str, str]:
  """What a child process must be told to find what this one finds.

  It must be started with `-P`, so that nothing comes before this path.
  """
  path = os.pathsep.join(each or os.getcwd() for each in sys.path)
  # Also where there is none: the parent may have been told of another.
  return {"PYTHONPATH": path, _VARIABLE: str(_place or "")}


def hidden(module: str) -> str:
  """What keeps a module of the user's folder from being the one of its name.

  Args:
    module: its full name; it was imported.

  Returns:
    The file of the one that was imported instead, or "".
  """
  package = module.partition(".")[0]
  here = folder()
  imported = sys.modules.get(package)
  if here is None or imported is None or not any(_candidates(here, package)):
    return ""
  places = [getattr(imported, "__file__", None) or "Python itself"]
  places += getattr(imported, "__path__", ())
  if any(Path(place).is_relative_to(here) for place in places):
    return ""
  return str(places[0])


def _candidates(folder: Path, name: str) -> Iterator[Path]:
  """What of that name Python could import from a folder."""
  for path in (folder / f"{name}.py", folder / name / "__init__.py"):
    if path.is_file():
      yield path
