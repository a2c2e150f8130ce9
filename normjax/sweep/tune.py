"""Grids of trials: the best value, its edges, growth by a notch."""

import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from normjax import configure, errors, fields
from normjax.configure import ConfigDict
from normjax.sweep import checks
from normjax.sweep.checks import is_number
from normjax.sweep.space import readable
from normjax.sweep.spec import Tune

Values = tuple[Any, ...]
Axes = dict[str, Values]
Scores = Mapping[Values, float | None]


def axes(tune: Tune, config: Callable[[], ConfigDict]) -> Axes:
  """The first grid of one method.

  Args:
    tune: of the sweep.
    config: makes the method's resolved config, where the space asks for it.

  Raises:
    UserError: an axis with fewer than two values, twice the same value, or
      a factor of something that is not a number.
  """
  space = tune.space
  if callable(space):
    space = _called(space, config)
  checks.limits_of("Tune.limits", tune.limits, space)
  own = {}
  if tune.relative:
    own = dict(configure.leaves(configure.to_dict(config())))
  grids: Axes = {}
  for key, values in checks.axes("Tune.space", space).items():
    if tune.relative:
      values = _products(key, values, own.get(key))
    numeric = all(map(is_number, values))
    if numeric and key in tune.limits:
      checks.within(key, values, tune.limits[key])
    grids[key] = tuple(sorted(values)) if numeric else values
  if not grids:
    raise errors.UserError("Tune.space is empty; leave `tune` out instead.")
  return grids


def check_own_values(
  tune: Tune, methods: Sequence[Mapping[str, Any]], config: ConfigDict
) -> None:
  """Refuses a function of `Tune.space` that passes over what a method sets.

  A function may well start from a method's own value. One that returns the
  same values without it never uses it, as a table of values never does.

  Args:
    tune: of the sweep.
    methods: the overrides of each.
    config: the base config.

  Raises:
    UserError: names the method, the key and the values.
  """
  if not callable(tune.space) or tune.relative:
    return
  for method in methods:
    resolved = configure.override(config, method)
    space = _called(tune.space, lambda config=resolved: config)
    for key in filter(space.__contains__, method):
      others = {k: v for k, v in method.items() if k != key}
      try:
        bare = configure.override(config, others)
        values = _called(tune.space, lambda config=bare: config).get(key)
      except errors.UserError:  # It asks for the method's own value.
        continue
      if values == space[key] and _leaf(bare, key) != _leaf(resolved, key):
        raise errors.UserError(
          f"method {dict(method)!r} sets {key!r}, which the function of"
          f" Tune.space varies over {list(values)} with and without it: its"
          " value would never be used."
        )


def _called(space: Callable[..., Any], config: Callable[[], ConfigDict]) -> Any:
  """The space that a function of the user's makes of a method's config."""
  file = inspect.getsourcefile(space) if inspect.isfunction(space) else None
  name = getattr(space, "__name__", "Tune.space")
  call = errors.located(
    file or "", f"Tune.space, the function {name!r}, failed", space
  )
  return checks.axes(
    f"what the function {name!r} of Tune.space returned", call(config())
  )


def _leaf(config: ConfigDict, key: str) -> Any:
  """The value at a dotted path; None where there is none."""
  return dict(configure.leaves(configure.to_dict(config))).get(key)


def _products(key: str, factors: Values, own: Any) -> Values:
  """The factors times the method's own value."""
  if not is_number(own) or own == 0:
    raise errors.UserError(
      f"Tune.relative needs a number other than 0 at {key!r}, got {own!r}."
    )
  if not all(map(is_number, factors)):
    raise errors.UserError(
      f"Tune.relative needs factors for {key!r}, got {list(factors)}."
    )
  values = tuple(readable(float(own * factor), 3) for factor in factors)
  if isinstance(own, int):
    values = tuple(
      int(value) if value.is_integer() else value for value in values
    )
  if len(set(values)) < len(values):
    raise errors.UserError(
      f"Tune.space[{key!r}]: the factors {list(factors)} of {own!r} give"
      f" {list(values)}; two or more different values are needed."
    )
  return values


def check_equal(grids: Mapping[str, Axes]) -> None:
  """Every method's grid has one shape, so that growth keeps them level.

  Raises:
    UserError: naming the two methods that differ.
  """
  shapes = {
    label: [(len(v), all(map(is_number, v))) for v in own.values()]
    for label, own in grids.items()
  }
  first = next(iter(shapes))
  for label, shape in shapes.items():
    if shape != shapes[first]:
      raise errors.UserError(
        "every method gets the same number of trials:"
        f" {first!r} has {[size for size, _ in shapes[first]]} values,"
        f" {label!r} has {[size for size, _ in shape]}."
      )


def trials(grid: Axes) -> list[Values]:
  """All combinations of the grid's values, the last axis fastest."""
  return list(itertools.product(*grid.values()))


def best(grid: Axes, scores: Scores) -> Values:
  """The values with the lowest score; the first of equals.

  Args:
    grid: of one method.
    scores: by trial: lower is better, inf diverged, None failed.
  """
  worst = (2, 0.0)

  def rank(values: Values) -> tuple[int, float]:
    score = scores[values]
    return worst if score is None else (int(score == math.inf), score)

  return min(trials(grid), key=rank)


def edges(
  grid: Axes,
  scores: Scores,
  chosen: Values,
  limits: Mapping[str, tuple[float, float]],
) -> dict[int, int]:
  """The axes on whose edge `chosen` lies, and the side: -1 low, 1 high.

  A trial that failed says nothing, so the edge is that of the trials with a
  result; without any there is no edge. A value at a limit is not on an edge.
  """
  found: dict[int, int] = {}
  if scores[chosen] is None:
    return found
  for index, (key, values) in enumerate(grid.items()):
    if not all(map(is_number, values)):
      continue
    known = {t[index] for t, score in scores.items() if score is not None}
    low, high = limit(key, values, limits)
    if chosen[index] == min(known) and chosen[index] > low:
      found[index] = -1
    elif chosen[index] == max(known) and chosen[index] < high:
      found[index] = 1
  return found


def grow_all(
  grids: Mapping[str, Axes],
  chosen: Mapping[str, Values],
  sides: Mapping[str, Mapping[int, int]],
  limits: Mapping[str, tuple[float, float]],
) -> dict[str, Axes] | None:
  """Every method's grid one notch larger on each axis that needs it.

  A method whose best is on an edge grows there; another grows on the side
  that its best is nearest to, so that all keep the same number of trials.

  Returns:
    The new grids, or None where nothing can grow.
  """
  grown = {label: dict(grid) for label, grid in grids.items()}
  needed = sorted({axis for own in sides.values() for axis in own})
  changed = False
  for axis in needed:
    new = {}
    for label, grid in grids.items():
      key = list(grid)[axis]
      values = grid[key]
      middle = (len(values) - 1) / 2
      near = 1 if values.index(chosen[label][axis]) >= middle else -1
      side = sides[label].get(axis, near)
      bounds = limit(key, values, limits)
      new[label] = grow(values, side, bounds) or grow(values, -side, bounds)
    if all(values is not None for values in new.values()):
      changed = True
      for label, values in new.items():
        grown[label][list(grids[label])[axis]] = values
  return grown if changed else None


def grow(
  values: Values, side: int, bounds: tuple[float, float]
) -> Values | None:
  """`values`, sorted numbers, with one more notch on a side.

  The notch continues the grid: by its mean ratio where the values are nearer
  to equal ratios, else by its mean difference. Where that would reach a
  bound, it goes half of the way there.

  Returns:
    None where no value fits.
  """
  edge = values[-1] if side > 0 else values[0]
  bound = bounds[1] if side > 0 else bounds[0]
  count = len(values) - 1
  if values[0] > 0 and _is_geometric(values):
    target = edge * (values[-1] / values[0]) ** (side / count)
  else:
    target = edge + side * (values[-1] - values[0]) / count
  # 0.1 - 0.1 may be 1e-17: what is that near to a bound has reached it.
  if side * (bound - target) <= 1e-6 * abs(target - edge):
    target = (edge + bound) / 2
  if all(isinstance(value, int) for value in values):
    new: float = round(target)
    fits = side * (new - edge) > 0 and side * (new - bound) < 0
    return _put(values, new, side) if fits else None
  for digits in range(2, 18):
    new = readable(target, digits)
    if side * (new - edge) > 0 and side * (new - bound) < 0:
      return _put(values, new, side)
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
