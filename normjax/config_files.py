"""Config files: where they are looked for, and how one is imported.

A folder `configs` beside the file that a command was given comes before ours.
"""

import contextlib
import difflib
import functools
import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from normjax import beside, errors

_LOG = logging.getLogger(__name__)


@functools.cache  # Asked for a hundred times per config, and always the same.
def configs_dir() -> Path:
  """The folder of config files: the checkout's, else the installed copy."""
  package = Path(__file__).resolve().parent
  checkout = package.parent / "configs"
  return checkout if checkout.is_dir() else package / "configs"


def _folders() -> tuple[Path, ...]:
  """The folders of config files, the first first: a user's own, then ours."""
  own = beside.folder()
  if own is None or (own / "configs").resolve() == configs_dir().resolve():
    return (configs_dir(),)
  return (own / "configs", configs_dir())


def search_beside(path: str | Path) -> None:
  """Looks for a user's parts beside a config file, from now on.

  With one of ours they are in the current folder.

  Args:
    path: `file.py` or `file.py:arg`, as a command was given it.
  """
  beside.search(None)
  found = _find(split_argument(path)[0])
  ours = found and found.resolve().is_relative_to(configs_dir().resolve())
  beside.search(Path() if ours else found)


def search_here() -> None:
  """Looks for a user's parts in the current folder, from now on."""
  beside.search(Path())


def component_files(folder: str) -> dict[str, Path]:
  """Name to file of the components in `configs/<folder>`, a user's own first.

  Args:
    folder: "norms", …
  """
  found: dict[str, Path] = {}
  for configs in _folders():
    for file in (configs / folder).glob("*.py"):
      found.setdefault(file.stem, file)
  return dict(sorted(found.items()))


def component_file(folder: str, name: str) -> Path | None:
  """The file of a component; None where there is none."""
  for configs in _folders():
    file = configs / folder / f"{name}.py"
    with contextlib.suppress(OSError, ValueError):  # No name of a file.
      if file.stem == name and file.is_file():
        ours = configs_dir() / folder / file.name
        if file != ours and ours.is_file():
          _say_hidden(file, ours)
        return file
  return None


@functools.cache
def _say_hidden(file: Path, ours: Path) -> None:
  """Says, once, that a file of the user's is taken in place of ours."""
  _LOG.warning("note: %s comes before normjax's own %s", file, ours.name)


def split_argument(path: str | Path) -> tuple[str, str]:
  """`file.py:arg` as file and argument; a file's own name may hold colons."""
  text = str(path)
  ends = [index for index, sign in enumerate(text) if sign == ":"]
  for end in [len(text), *ends]:
    if _find(text[:end]) is not None:
      return text[:end], text[end + 1 :]
  file, _, argument = text.partition(":")
  return file, argument


def _find(file: str) -> Path | None:
  """The config file that is meant: in the current folder, beside, or ours.

  Beside what the command was given, that is; `configs/…` is first looked for
  there, wherever the command is given.
  """
  asked = Path(file)
  tries = [asked, *(folder.parent / asked for folder in _folders())]
  if beside.folder() is not None and asked.parts[:1] == ("configs",):
    tries.insert(0, beside.folder() / asked)
  tries = [p.with_name(p.name + ".py") for p in tries if p.name] + tries
  try:
    found = next((p for p in tries if p.is_file()), None)
    ours = configs_dir().parent / asked
    if found and ours.is_file() and not ours.samefile(found):
      _say_hidden(found, ours)
    return found
  except (OSError, ValueError) as error:  # Too long, or not a name at all.
    what = error.strerror if isinstance(error, OSError) else str(error)
    raise errors.ConfigError(
      f"no config file {shortened(file)!r}: {what}."
    ) from error


def shortened(text: str, most: int = 60) -> str:
  """A text that fits into a message."""
  return text if len(text) <= most else f"{text[:most]}… ({len(text)} long)"


def load_module(path: str | Path) -> ModuleType:
  """Imports a config file, given as a path with or without `.py`.

  A relative path is looked for in the current folder, then beside
  `configs/`.

  Raises:
    ConfigError: the file is missing, does not import, or has neither
      `get_config` nor, as tables whose numbers are computed, `measure`.
  """
  found = _find(str(path))
  if found is None:
    known = [
      f"configs/{p.relative_to(configs_dir())}"
      for p in sorted(configs_dir().rglob("*.py"))
    ]
    stem = Path(str(path)).stem
    close = [file for file in known if Path(file).stem == stem]
    close = close or difflib.get_close_matches(str(path), known, n=3)
    raise errors.ConfigError(
      f"no config file {str(path)!r}."
      + (f" Did you mean {' or '.join(close)}?" if close else "")
    )
  spec = importlib.util.spec_from_file_location(
    f"normjax_config_{found.stem}", found
  )
  if spec is None or spec.loader is None:
    raise errors.ConfigError(
      f"config file {str(found)!r} is no Python file: its name must end in .py."
    )
  module = importlib.util.module_from_spec(spec)
  run = errors.located(
    found, f"config file {found} does not import", spec.loader.exec_module
  )
  run(module)
  made_by = ("get_config", "measure")
  if not any(callable(getattr(module, name, None)) for name in made_by):
    raise errors.ConfigError(f"config file {found} defines no get_config().")
  return module


def maker(module: ModuleType, file: str) -> Callable[..., Any]:
  """A config file's `get_config`.

  Raises:
    ConfigError: a table's file that has none, as its numbers are computed.
  """
  if not callable(getattr(module, "get_config", None)):
    raise errors.ConfigError(
      f"{file} has no get_config(): its numbers are computed, not trained;"
      f" `normjax reproduce {Path(file).stem}` shows them."
    )
  return module.get_config
