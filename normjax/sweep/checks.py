"""Checks of what users write in a sweep: each message names the field."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from normjax import configure, errors, fields
from normjax.record import schema
from normjax.registry import near_misses

# A longer label fits in no table.
MAX_LABEL = 200
# Words in the names of this project's own metrics, and which mode they ask for.
_DIRECTIONS = (
  (re.compile(r"[/_](accuracy(/|$)|recall_at_k\b)"), "larger", "max"),
  (re.compile(r"[/_](loss|perplexity|calibration_error)$"), "smaller", "min"),
)


def items(name: str, value: Any, what: str) -> list[Any]:
  """The items of a list, tuple or other iterable.

  Raises:
    UserError: a string, a mapping, or nothing that has items.
  """
  if isinstance(value, str | bytes | Mapping) or not isinstance(
    value, Iterable
  ):
    raise errors.UserError(f"{name} needs {what}, got {value!r}.")
  return list(value)


def string(name: str, value: Any) -> None:
  """Raises UserError unless `value` is a string that is not empty."""
  if not isinstance(value, str) or not value:
    raise errors.UserError(f"{name} must be a string, got {value!r}.")


def one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
  """Raises UserError unless `value` is one of some words."""
  if not isinstance(value, str) or value not in allowed:
    raise errors.UserError(
      f"{name} must be one of {', '.join(map(repr, allowed))}, got"
      f" {value!r}.{near_misses(str(value), allowed)}"
    )


def direction(metric: str, mode: str) -> None:
  """Raises UserError for a mode that would choose the worst as the best.

  Args:
    metric: of `Sweep`; of one that is not known nothing is said.
    mode: "min" or "max".
  """
  for name, better, right in _DIRECTIONS:
    if mode != right and name.search(metric):
      raise errors.UserError(
        f"Sweep.metric {metric!r} is better where it is {better}, but"
        f" Sweep.mode is {mode!r}. Give Sweep(mode={right!r})."
      )


def seeds(name: str, value: Any) -> tuple[int, ...]:
  """Seeds as Python's integers, each once."""
  values = [
    configure.plain(s)
    for s in items(name, value, "one or more different whole numbers")
  ]
  if (
    not values or not all(map(is_int, values)) or len(set(values)) < len(values)
  ):
    raise errors.UserError(
      f"{name} needs one or more different whole numbers, got {value!r}."
    )
  for seed in values:
    problem = fields.FIELDS["seed"].problem(seed)
    if problem:
      raise errors.UserError(f"{name}: seed {seed} {problem}.")
  return tuple(values)


def plain(name: str, value: Any) -> Any:
  """The value with Python's own numbers.

  Raises:
    UserError: what JSON does not have.
  """
  value = configure.plain(value)
  if not _is_plain(value):
    raise errors.UserError(
      f"{name} is {value!r} ({type(value).__name__}); allowed: numbers,"
      " strings, booleans, None, and lists or tuples of these."
    )
  return value


def _is_plain(value: Any) -> bool:
  if isinstance(value, list | tuple):
    return all(map(_is_plain, value))
  return value is None or isinstance(value, bool | int | float | str)


def labels(names: Sequence[Any], count: int) -> None:
  """Checks the labels of `count` methods.

  Raises:
    UserError: not as many different, printable strings.
  """
  for name in names:
    if not isinstance(name, str) or not name.strip():
      raise errors.UserError(
        f"Sweep.labels must be strings that are not empty, got {name!r}."
      )
    label_length(name)
  if len(names) != count or len(set(names)) != len(names):
    raise errors.UserError(
      f"Sweep.labels needs {count} different labels, got {list(names)!r}."
    )


def label_length(name: str) -> None:
  """Raises UserError for a label that is too long for a table."""
  if len(name) > MAX_LABEL:
    raise errors.UserError(
      f"the label {name[:40]!r}… has {len(name)} characters; allowed:"
      f" {MAX_LABEL}. Sweep.labels gives shorter ones."
    )


def baseline(value: Any) -> None:
  """Checks the type of `Sweep.baseline`; what it fits is seen later."""
  if not (value is None or isinstance(value, str | Mapping)):
    raise errors.UserError(
      "Sweep.baseline must be a label, an override dict or None, got"
      f" {value!r}."
    )


def axes(name: str, space: Any) -> dict[str, tuple[Any, ...]]:
  """A space of values by dotted path, as hashable Python values.

  Raises:
    UserError: not a mapping from strings to lists of two or more different
      values, a number that is not finite, or a key that says what is measured.
  """
  if not isinstance(space, Mapping):
    raise errors.UserError(
      f"{name} must be a mapping from dotted path to values, got {space!r}."
    )
  found = {}
  for key, values in space.items():
    where = f"{name}[{key!r}]"
    if not isinstance(key, str):
      raise errors.UserError(f"{where}: a key is a dotted path.")
    if key == "seed":
      raise errors.UserError(f"{where}: seeds go into Tune.seeds.")
    if key.startswith("evaluate.") and not key.startswith("evaluate.adapt."):
      raise errors.UserError(
        f"{where}: that is what trials are measured by, and no choice."
      )
    axis = tuple(
      frozen(plain(f"a value of {where}", value))
      for value in items(where, values, "a list of values")
    )
    for value in axis:
      if is_number(value) and not schema.is_number(value):
        raise errors.UserError(
          f"{where}: {str(value)[:40]} is not finite as a float."
        )
    if len(axis) < 2 or len(set(axis)) < len(axis):
      raise errors.UserError(
        f"{where} needs two or more different values, got {list(axis)}."
      )
    found[key] = axis
  return found


def limits(value: Any) -> dict[str, tuple[float, float]]:
  """`Tune.limits` as pairs of Python's numbers.

  Raises:
    UserError: not (low, high) with low < high, by dotted path.
  """
  if not isinstance(value, Mapping):
    raise errors.UserError(
      f"Tune.limits must be a mapping from dotted path to (low, high), got"
      f" {value!r}."
    )
  found = {}
  for key, pair in value.items():
    where = f"Tune.limits[{key!r}]"
    ends = items(where, configure.plain(pair), "(low, high)")
    if len(ends) != 2 or not all(map(is_number, ends)):
      raise errors.UserError(f"{where} must be (low, high), got {pair!r}.")
    low, high = ends
    if not low < high:  # Nor are they where one is NaN.
      raise errors.UserError(
        f"{where} must have low < high, got ({low!r}, {high!r})."
      )
    found[key] = (low, high)
  return found


def limits_of(
  name: str, bounds: Mapping[str, tuple[float, float]], space: Mapping[str, Any]
) -> None:
  """Raises UserError for limits of what is not tuned, or has no order."""
  for key in bounds:
    if key not in space:
      raise errors.UserError(
        f"{name}[{key!r}]: Tune.space does not vary it; it varies"
        f" {', '.join(map(repr, space)) or 'nothing'}."
      )
    values = tuple(map(configure.plain, space[key]))
    if not all(map(is_number, values)):
      raise errors.UserError(
        f"{name}[{key!r}]: its values have no order: {list(values)}."
      )


def within(
  key: str, values: Sequence[Any], bounds: tuple[float, float]
) -> None:
  """Raises UserError where a value is beyond its limits."""
  low, high = bounds
  for value in values:
    if not low <= value <= high:
      raise errors.UserError(
        f"Tune.space[{key!r}]: {value!r} is beyond Tune.limits"
        f" ({low!r}, {high!r})."
      )


def is_number(value: Any) -> bool:
  """Whether a value has an order and a notch."""
  return isinstance(value, int | float) and not isinstance(value, bool)


def is_int(value: Any) -> bool:
  """Whether a value is a whole number."""
  return isinstance(value, int) and not isinstance(value, bool)


def frozen(value: Any) -> Any:
  """Lists as tuples: values of a grid are keys of dicts."""
  return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value
