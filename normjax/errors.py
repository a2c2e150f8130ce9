"""Errors that a user can act on, and how their messages list names.

The command line prints them bare.
"""

import functools
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class UserError(ValueError):
  """Bad input: the message names the key, the value and what is allowed."""


class WrongTypeError(UserError, TypeError):
  """An option or a leaf of another type; a TypeError too, as Python's own."""


class UnknownNameError(UserError):
  """A name that is in no table; the message lists near misses."""


class ConfigError(UserError):
  """A config that does not load, or an override that does not fit it."""


class DataError(UserError):
  """Data that is missing or malformed; the message says what to run."""


class MissingDataError(DataError):
  """Data that is not there; `data.spec` may know what it would give."""


class CacheError(DataError):
  """The cache of prepared data cannot be written."""


class RunError(UserError):
  """A run or sweep directory that cannot be used as asked."""


class BusyRunError(RunError):
  """A directory that another process uses now: later it may be free."""


class LostLeaseError(BusyRunError):
  """A run of a sweep that another launcher has taken over."""


def few(names: Sequence[str], most: int = 6, separator: str = ", ") -> str:
  """The first names and how many more there are: "a, b and 2 more"."""
  shown, more = separator.join(names[:most]), and_more(len(names) - most)
  if not more:
    return shown
  return f"{shown}{'' if separator == ', ' else separator.strip()} {more}"


def and_more(count: int, unit: str = "") -> str:
  """What follows those that are named: "and 2 more faults"; none is ""."""
  if count <= 0:
    return ""
  return f"and {count:,} more" + (f" {unit}{'s' * (count > 1)}" if unit else "")


def located(
  file: str | Path, problem: str, function: Callable[..., Any]
) -> Callable[..., Any]:
  """A function of a config file whose errors say where in the file they are.

  Args:
    file: of the config.
    problem: begins the message.
    function: of the file.

  Returns:
    The function; it raises ConfigError for whatever went wrong, `sys.exit`
    too, but for what is a UserError already.
  """

  @functools.wraps(function)
  def guarded(*args: Any) -> Any:
    try:
      return function(*args)
    except UserError:
      raise
    except (Exception, SystemExit) as error:
      line = _line_of(error, Path(file))
      where = f" (line {line})" if line else ""
      raise ConfigError(
        f"{problem}: {type(error).__name__}: {error}{where}"
      ) from error

  return guarded


def _line_of(error: BaseException, file: Path) -> int | None:
  """The line of a file that an error came through last."""
  if isinstance(error, SyntaxError) and error.filename == str(file):
    return None  # Its own message has the line.
  frames = traceback.extract_tb(error.__traceback__)
  lines = [f.lineno for f in frames if Path(f.filename).name == file.name]
  return lines[-1] if lines else None
