"""Values beside those of an axis: one notch beyond, or between two of them.

A notch is the step from one value of a grid to the next: a ratio where the
values are nearer to equal ratios, else a difference.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from normjax import fields
from normjax.sweep.search import Values
from normjax.sweep.space import readable


def grow(
  values: Values, side: int, bounds: tuple[float, float]
) -> Values | None:
  """`values`, sorted numbers, with one more notch on a side.

  The notch continues the grid by its mean ratio or difference. Where that
  would reach a bound, it goes half of the way there.

  Returns:
    None where no value fits.
  """
  new = _outside(values, side, bounds)
  return None if new is None else _put(values, new, side)


def between(
  values: Values, chosen: Any, per_side: int, bounds: tuple[float, float]
) -> list[Any] | None:
  """New values around the chosen one, on both sides.

  One per side is the midpoint to the neighbour, two are the thirds, and so on;
  geometric where the grid is. Where there is no neighbour they lie within half
  a notch beyond; where nothing fits there, all lie on the side that has one.

  Args:
    values: sorted numbers.
    chosen: one of them.
    per_side: how many on each side.
    bounds: never crossed.

  Returns:
    Twice `per_side` values; None where so many do not fit.
  """
  at = values.index(chosen)
  found: list[Any] = []
  missing = 0
  for neighbour, side in ((at - 1, -1), (at + 1, 1)):
    if 0 <= neighbour < len(values):
      found += _inside(values, chosen, values[neighbour], per_side)
      continue
    notches = [0.5 * (i + 1) / per_side for i in range(per_side)]
    beyond = [_outside(values, side, bounds, notch) for notch in notches]
    if None in beyond or len(set(beyond)) < per_side:
      missing = side
    else:
      found += beyond
  if missing:
    neighbour = values[at - missing]
    found = _inside(values, chosen, neighbour, 2 * per_side)
  distinct = {*found} - {*values}
  return sorted(distinct) if len(distinct) == 2 * per_side else None


def _inside(values: Values, low: Any, high: Any, count: int) -> list[Any]:
  """Values strictly between two neighbours, evenly on the grid's scale."""
  whole = all(isinstance(value, int) for value in values)
  geometric = values[0] > 0 and _is_geometric(values)
  found = []
  for index in range(count):
    share = (index + 1) / (count + 1)
    if geometric:
      target = low * (high / low) ** share
    else:
      target = low + share * (high - low)
    ends = sorted((low, high))
    fits = [round(target)] if whole else [
      readable(target, digits) for digits in range(3, 18)
    ]  # fmt: skip
    found += [value for value in fits if ends[0] < value < ends[1]][:1]
  return found


def _outside(
  values: Values, side: int, bounds: tuple[float, float], notches: float = 1.0
) -> Any:
  """A value some notches beyond the edge; None where none fits."""
  edge = values[-1] if side > 0 else values[0]
  bound = bounds[1] if side > 0 else bounds[0]
  count = len(values) - 1
  if values[0] > 0 and _is_geometric(values):
    target = edge * (values[-1] / values[0]) ** (side * notches / count)
  else:
    target = edge + side * notches * (values[-1] - values[0]) / count
  # 0.1 - 0.1 may be 1e-17: what is that near to a bound has reached it.
  if side * (bound - target) <= 1e-6 * abs(target - edge):
    target = (edge + bound) / 2
  if all(isinstance(value, int) for value in values):
    new: float = round(target)
    fits = side * (new - edge) > 0 and side * (new - bound) < 0
    return new if fits else None
  for digits in range(2 if notches == 1.0 else 3, 18):
    new = readable(target, digits)
    if side * (new - edge) > 0 and side * (new - bound) < 0:
      return new
  return None


def limit(
  key: str, values: Values, limits: Mapping[str, tuple[float, float]]
) -> tuple[float, float]:
  """The (low, high) that growth of an axis never crosses."""
  if key in limits:
    return limits[key]
  natural = 0.0 if all(value >= 0 for value in values) else -math.inf
  if key not in fields.FIELDS:
    return natural, math.inf
  return max(natural, fields.FIELDS[key].low), fields.FIELDS[key].high


def _is_geometric(values: Sequence[float]) -> bool:
  pairs = list(itertools.pairwise(values))
  ratios = [math.log(b / a) for a, b in pairs]
  steps = [b - a for a, b in pairs]
  return _unevenness(ratios) <= _unevenness(steps)


def _unevenness(values: Sequence[float]) -> float:
  return (max(values) - min(values)) / max(values)


def _put(values: Values, new: float, side: int) -> Values:
  return (*values, new) if side > 0 else (new, *values)
