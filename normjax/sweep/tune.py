"""Grids of trials: their values, the best, its edges, equal growth."""

import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from normjax import configure, errors
from normjax.configure import ConfigDict
from normjax.sweep import checks, notches
from normjax.sweep.checks import is_number
from normjax.sweep.search import Axes, Scores, Values
from normjax.sweep.space import readable
from normjax.sweep.tune_spec import Tune


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
    for key in space:
      configure.check_leaf(config(), key)
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


def axes_of(label: str, tune: Tune, config: Callable[[], ConfigDict]) -> Axes:
  """`axes` of a method, which is named where its own values are at fault."""
  try:
    return axes(tune, config)
  except errors.UserError as error:
    if not tune.relative and not callable(tune.space):
      raise
    raise type(error)(f"method {label!r}: {error}") from error


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
      f"Tune.relative needs a number other than 0 at {key!r}, got {own!r}; set"
      " one in the method, or give values with Tune.relative=False."
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


def check_all_or_none(
  grids: Mapping[str, Axes],
  methods: Mapping[str, Mapping[str, Any]],
  leaves: Mapping[str, Mapping[str, Any]],
) -> None:
  """Refuses a key that one method tunes and another has, but does not tune.

  A method that sets the key itself is a row about its value, and may leave it
  so. A method that has no such key spends the same budget on others.

  Args:
    grids: by label.
    methods: the overrides of each.
    leaves: the resolved config of each, by dotted path.

  Raises:
    UserError: names the two methods and the key.
  """
  for label, grid in grids.items():
    for other, own in grids.items():
      for key in grid:
        if key in own or key in methods[other] or key not in leaves[other]:
          continue
        raise errors.UserError(
          f"{key!r} is tuned for {label!r}, not for {other!r}, which has it"
          f" ({leaves[other][key]!r}): a number is tuned for all or for none."
          " Add it there, or set it in the method where the row is about its"
          " value."
        )


def are_level(grids: Mapping[str, Axes]) -> bool:
  """Whether all have as many values on each axis, so that growth is alike."""
  shapes = {
    tuple((len(v), all(map(is_number, v))) for v in grid.values())
    for grid in grids.values()
  }
  return len(shapes) == 1


def longest(grid: Axes) -> tuple[int, float | None]:
  """How many values the longest numeric axis has, and their mean ratio.

  Returns:
    0 and None where there is none; None for values that have no ratio.
  """
  numeric = [v for v in grid.values() if all(map(is_number, v))]
  if not numeric:
    return 0, None
  values = max(numeric, key=len)
  if values[0] <= 0:
    return len(values), None
  return len(values), (values[-1] / values[0]) ** (1 / (len(values) - 1))


def product_of(counts: Sequence[int]) -> str:
  """A number of trials, and what it comes from: `9 = 3 x 3`."""
  total = str(math.prod(counts))
  return f"{total} = {' x '.join(map(str, counts))}" if counts[1:] else total


def trials(grid: Axes) -> list[Values]:
  """All combinations of the grid's values, the last axis fastest."""
  return list(itertools.product(*grid.values()))


def best(tried: Sequence[Values], scores: Scores) -> Values:
  """The values with the lowest score; the first of equals.

  Args:
    tried: of one method.
    scores: by trial: lower is better, inf diverged, None failed.
  """
  worst = (2, 0.0)

  def rank(values: Values) -> tuple[int, float]:
    score = scores[values]
    return worst if score is None else (int(score == math.inf), score)

  return min(tried, key=rank)


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
    low, high = notches.limit(key, values, limits)
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
      bounds = notches.limit(key, values, limits)
      new[label] = notches.grow(values, side, bounds) or notches.grow(
        values, -side, bounds
      )
    if all(values is not None for values in new.values()):
      changed = True
      for label, values in new.items():
        grown[label][list(grids[label])[axis]] = values
  return grown if changed else None
