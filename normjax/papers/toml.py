"""Records of TOML and JSON files, read strictly: faults name their place."""

import math
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from normjax import errors
from normjax.registry import near_misses

Record = Mapping[str, Any]


def load(path: Path) -> dict[str, Any]:
  """A file's content.

  Raises:
    UserError: it cannot be read, or is no TOML.
  """
  try:
    return tomllib.loads(path.read_text(encoding="utf-8"))
  except OSError as error:
    raise errors.UserError(f"{path}: {error.strerror}.") from error
  except ValueError as error:  # Of TOML, and of bytes that are no text.
    raise errors.UserError(f"{path} is no TOML file: {error}.") from error


def check_keys(
  where: str, record: Any, needed: Collection[str], allowed: Collection[str]
) -> None:
  """Checks that a record has the keys that it must, and no others.

  Args:
    where: file, table and row, as messages name them.
    record: is refused too where it is no table.
    needed: keys.
    allowed: further keys.

  Raises:
    UserError: it does not.
  """
  if not isinstance(record, Mapping):
    raise errors.UserError(f"{where}: {record!r} is no table of keys.")
  known = [*needed, *(key for key in allowed if key not in needed)]
  for key in record:
    if key not in known:
      raise errors.UserError(
        f"{where}: unknown key {key!r}.{near_misses(key, known)} Allowed:"
        f" {', '.join(known)}."
      )
  for key in needed:
    if key not in record:
      raise errors.UserError(f"{where}: no {key!r}.")


def text(where: str, record: Record, key: str, empty: bool = False) -> str:
  """A text of a record; "" where it has none and may have none.

  Raises:
    UserError: it is no text, or is empty and must not be.
  """
  value = record.get(key, "")
  if not isinstance(value, str) or not (empty or value.strip()):
    allowed = "a text" if empty else "a text that is not empty"
    raise errors.UserError(f"{where}: {key}={value!r}; allowed: {allowed}.")
  return value


def word(where: str, record: Record, key: str, allowed: Collection[str]) -> str:
  """One of a few words.

  Raises:
    UserError: it is none of them.
  """
  value = record.get(key)
  if not isinstance(value, str) or value not in allowed:
    raise errors.UserError(
      f"{where}: {key}={value!r}; allowed: {', '.join(allowed)}."
    )
  return value


def number(where: str, record: Record, key: str, least: float) -> float:
  """A finite number that is not below `least`.

  Raises:
    UserError: it is not.
  """
  value = record[key]
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  try:
    fits = is_number and math.isfinite(value) and value >= least
  except OverflowError:  # A whole number of more digits than a float has.
    fits = False
  if not fits:
    more = "" if least == -math.inf else f" >= {least:g}"
    raise errors.UserError(
      f"{where}: {key}={value!r}; allowed: a finite number{more}."
    )
  return value


def records(where: str, record: Record, key: str) -> list[Any]:
  """A list of records; none where the key is not there.

  Raises:
    UserError: it is no list.
  """
  value = record.get(key, [])
  if not isinstance(value, list):
    raise errors.UserError(f"{where}: {key}={value!r}; allowed: a list.")
  return value
