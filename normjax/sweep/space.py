"""Spaces of overrides: lists of dicts from dotted path to value.

Pure functions on plain lists, so that `sweep()` can also build, filter and
print them with ordinary Python.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from normjax import configure, errors

Overrides = dict[str, Any]
Space = list[Overrides]


def point(overrides: Mapping[str, Any] | None = None, /, **more: Any) -> Space:
  """The space of one point, as in `point({"norm.name": "dyt"}, seed=0)`."""
  return [_merge(dict(overrides or {}), more)]


def grid(
  key: str | Mapping[str, Iterable[Any]] | None = None,
  values: Iterable[Any] | None = None,
  /,
  **more: Iterable[Any],
) -> Space:
  """One point a value; of several keys, all combinations, the last fastest.

  Args:
    key: a dotted path, or a mapping of dotted path to values.
    values: of `key`, where that is a path.
    **more: further keys that have no dot, as in `grid(seed=range(3))`.

  Raises:
    UserError: a key without values, or a string where a list is meant.
  """
  axes = dict(key) if isinstance(key, Mapping) else {}
  if isinstance(key, str):
    axes[key] = () if values is None else values
  elif values is not None or not isinstance(key, Mapping | None):
    raise errors.UserError(
      "grid needs a dotted path with its values, or a mapping of paths to"
      f" values, got {key!r}" + ("." if values is None else f" and {values!r}.")
    )
  axes |= more
  for name, axis in axes.items():
    if isinstance(axis, str | bytes) or not isinstance(axis, Iterable):
      raise errors.UserError(
        f"grid of {name!r} needs a list of values, got {axis!r}."
      )
    axes[name] = [configure.plain(value) for value in axis]
    if not axes[name]:
      raise errors.UserError(f"grid of {name!r} has no values.")
  return product(*([{name: v} for v in axis] for name, axis in axes.items()))


def product(*spaces: Iterable[Mapping[str, Any]]) -> Space:
  """All combinations, the last space varying fastest.

  Raises:
    UserError: two spaces set one key to different values.
  """
  return [_merge(*parts) for parts in itertools.product(*map(list, spaces))]


def zip_(*spaces: Iterable[Mapping[str, Any]]) -> Space:
  """The spaces side by side: point i sets what every space's point i sets.

  Raises:
    UserError: lengths differ, or two spaces set one key differently.
  """
  lists = [list(space) for space in spaces]
  if len({len(space) for space in lists}) > 1:
    raise errors.UserError(
      "zip_ needs spaces of one length, got lengths"
      f" {', '.join(str(len(space)) for space in lists)}."
    )
  return [_merge(*parts) for parts in zip(*lists, strict=True)]


def chain(*spaces: Iterable[Mapping[str, Any]]) -> Space:
  """The spaces one after the other."""
  return [dict(part) for part in itertools.chain(*spaces)]


def log_grid(low: float, high: float, num: int) -> list[float]:
  """`num` values from `low` to `high`, in equal ratios, as readable numbers.

  Inner values are rounded to two significant digits, to more where two of
  them would coincide: `log_grid(1e-4, 1e-2, 5)` is
  `[0.0001, 0.00032, 0.001, 0.0032, 0.01]`.

  Raises:
    UserError: not 0 < low < high, or `num` under 2.
  """
  if not 0 < low < high < math.inf or num < 2:
    raise errors.UserError(
      f"log_grid({low!r}, {high!r}, {num!r}) needs 0 < low < high, num >= 2."
    )
  ratio = math.log(high / low) / (num - 1)
  inner = [low * math.exp(ratio * index) for index in range(1, num - 1)]
  for digits in range(2, 18):
    values = [low, *(readable(value, digits) for value in inner), high]
    if all(a < b for a, b in itertools.pairwise(values)):
      return [float(value) for value in values]
  raise errors.UserError(f"{num} floats do not fit between {low} and {high}.")


def readable(value: float, digits: int = 2) -> float:
  """`value` rounded to so many significant digits."""
  return float(f"{value:.{digits - 1}e}")


def words(arg: str, allowed: Collection[str]) -> list[str]:
  """The words of an argument of a sweep file, as in `file.py:full,debug`.

  Args:
    arg: of `get_config` and `sweep`; "" has none.
    allowed: those that the file knows.

  Raises:
    UserError: another word.
  """
  found = arg.split(",") if arg else []
  for word in found:
    if word not in allowed:
      raise errors.UserError(
        f"unknown argument {word!r}; allowed: {', '.join(allowed)}, and several"
        " with commas."
      )
  return found


def _merge(*parts: Mapping[str, Any]) -> Overrides:
  merged: Overrides = {}
  for part in parts:
    for key, value in part.items():
      if key in merged and merged[key] != value:
        raise errors.UserError(
          f"{key!r} is set twice, to {merged[key]!r} and to {value!r}."
        )
      merged[key] = value
  return merged
