"""Where published tables come from: the files of `configs/papers`.

A user's own `configs/papers` comes before ours, and the path of a file does as
well as a name. Nothing here imports jax.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from normjax import config_files, configure, errors, papers
from normjax.registry import near_misses

if TYPE_CHECKING:
  from normjax.sweep.spec import Sweep

FOLDER = "papers"


@dataclasses.dataclass(frozen=True)
class Source:
  """A file that gives a published table.

  Attributes:
    name: of the table: the file's, without its suffix.
    path: as a command is given it.
    module: the file, imported.
    scales: that it has, the default first.
  """

  name: str
  path: str
  module: ModuleType
  scales: tuple[str, ...]

  @property
  def headline(self) -> str:
    """The first line of the file's docstring: the question."""
    return (inspect.getdoc(self.module) or "").partition("\n")[0]

  def scale(self, asked: str | None) -> str:
    """The scale that is meant; the file's first where none is asked for.

    Raises:
      UserError: the file does not have it.
    """
    if asked is None:
      return self.scales[0]
    if asked not in self.scales:
      raise errors.UserError(
        f"--scale={asked}: {self.path} does not have it; its scales:"
        f" {', '.join(self.scales)}."
      )
    return asked

  def table(self, scale: str) -> papers.Table:
    """The table at a scale.

    Raises:
      ConfigError: `table` fails, or returns something else.
    """
    made = self._call("table", scale)
    if not isinstance(made, papers.Table):
      raise errors.ConfigError(
        f"table({scale!r}) of {self.path} returned {type(made).__name__}; a"
        " papers.Table is needed."
      )
    if papers.MEASURE in made.parts and not self._has("measure"):
      raise errors.ConfigError(
        f"{self.path} defines no measure(scale), but table({scale!r}) has the"
        f" part {papers.MEASURE!r}."
      )
    return made

  def config(self, scale: str, part: str) -> str:
    """A part's sweep, as `normjax sweep` would be given it."""
    return f"{self.path}:{papers.argument(scale, part)}"

  def sweep(
    self, scale: str, part: str
  ) -> tuple[configure.ConfigDict, "Sweep"]:
    """The base config and the sweep of a part, as the file has them now.

    Raises:
      ConfigError: `get_config` or `sweep` fails, or returns something else.
    """
    from normjax.sweep import spec  # Late: most tables of a list need none.

    path = self.config(scale, part)
    config = configure.load(path)
    return config, spec.load(path, config)

  def sweep_id(self, scale: str, part: str) -> str:
    """What the runs of a part are known by: see `sweep.plan.Comparison`.

    Raises:
      UserError: what `sweep` raises, and a sweep that breaks the protocol.
    """
    from normjax.sweep import plan

    config, sweep = self.sweep(scale, part)
    return plan.Comparison(sweep, config).sweep_id

  def measure(
    self, scale: str, piece: Callable[..., Any]
  ) -> Mapping[papers.Ref, Any]:
    """The values of the part that is computed.

    Args:
      scale: one of the file's.
      piece: for a `measure` that takes it; see `pieces.Pieces`.

    Raises:
      ConfigError: `measure` fails, or returns no mapping.
    """
    asked = inspect.signature(self.module.measure).parameters
    more = [piece] if len(asked) > 1 else []
    made = self._call("measure", scale, *more)
    if not isinstance(made, Mapping):
      raise errors.ConfigError(
        f"measure({scale!r}) of {self.path} returned {type(made).__name__}; a"
        " mapping from a cell to a value per seed is needed."
      )
    return made

  def _has(self, function: str) -> bool:
    return callable(getattr(self.module, function, None))

  def _call(self, function: str, scale: str, *more: Any) -> Any:
    call = errors.located(
      self.module.__file__ or self.path,
      f"{function}({scale!r}) of {self.path} failed",
      getattr(self.module, function),
    )
    return call(scale, *more)


def names() -> list[str]:
  """Of all tables that are found from the current folder."""
  return list(config_files.component_files(FOLDER))


def find(asked: str) -> Source:
  """The table of a name, or of a file's path.

  From now on a user's parts are looked for beside that file.

  Raises:
    UnknownNameError: there is none of that name.
    ConfigError: the file does not import, or is no table's.
  """
  config_files.search_here()
  if arg := config_files.split_argument(asked)[1]:
    raise errors.UserError(
      f"{asked}: a table's scale is given as --scale={arg}."
    )
  known = names()
  path = f"configs/{FOLDER}/{asked}.py" if asked in known else asked
  if asked not in known and not _is_path(asked):
    raise errors.UnknownNameError(
      f"no table {config_files.shortened(asked)!r}.{near_misses(asked, known)}"
      " `normjax reproduce --list` shows all; the path of a file does as well."
    )
  config_files.search_beside(path)
  return read(path)


def read(path: str) -> Source:
  """The table of a file.

  Raises:
    ConfigError: the file does not import, or is no table's.
  """
  module = config_files.load_module(path)
  if not callable(getattr(module, "table", None)):
    raise errors.ConfigError(
      f"{path} defines no table(): a published table has table(scale) and"
      " SCALES beside what a sweep file has (see normjax.papers)."
    )
  return Source(Path(path).stem, path, module, _scales(path, module))


def _is_path(asked: str) -> bool:
  return "/" in asked or asked.endswith(".py")


def _scales(path: str, module: ModuleType) -> tuple[str, ...]:
  """`SCALES` of a file, checked."""
  found = getattr(module, "SCALES", None)
  fits = isinstance(found, tuple | list) and len({*found}) == len(found) > 0
  if not fits or not all(each in papers.SCALES for each in found):
    raise errors.ConfigError(
      f"{path}: SCALES={found!r}; needed: some of {', '.join(papers.SCALES)},"
      " the default first."
    )
  return tuple(found)
