"""Trials around the best of a search, between the values that it has tried.

One numeric axis after the other, the rest at the best so far: half a notch
below and half a notch above. (With all axes around one point only one of them
could move, and the others would keep what the grid leaves.) The midpoint is
geometric where the grid is, so a factor sqrt(3) for values a factor 3 apart,
else it is the mean. A grid alone treats a method unfairly whose optimum lies
between two of its values.

Budgets stay equal. Where the best is the outermost value, one of the two lies
half a notch beyond; where a limit forbids that, both lie within, at thirds. A
method with fewer axes than the others has more trials on each. An axis of whole
numbers that has no room is left out for all methods.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from normjax import errors
from normjax.sweep import notches
from normjax.sweep import tune as tune_lib
from normjax.sweep.checks import is_number
from normjax.sweep.search import Axes, Found, Round, Rounds, Values

Limits = Mapping[str, tuple[float, float]]


def _numeric(grid: Axes) -> list[int]:
  """The axes that have midpoints."""
  return [
    index
    for index, values in enumerate(grid.values())
    if all(map(is_number, values))
  ]


def size(grids: Mapping[str, Axes]) -> int:
  """Trials per method, where every axis has room."""
  return 2 * max(len(_numeric(grid)) for grid in grids.values())


def check(grids: Mapping[str, Axes]) -> None:
  """Raises UserError, naming two methods, where trials would differ."""
  counts = {label: len(_numeric(grid)) for label, grid in grids.items()}
  most = max(counts, key=counts.__getitem__)
  for label, count in counts.items():
    if counts[most] and (not count or counts[most] % count):
      raise errors.UserError(
        f"every method gets the same number of trials: {most!r} has"
        f" {counts[most]} numeric axes, {label!r} has {count}, so that a second"
        " pass has not as many trials for both; Tune.second_pass=False leaves"
        " it out."
      )


def rounds(
  grids: Mapping[str, Axes], best: Mapping[str, Values], limits: Limits
) -> Rounds:
  """One round per axis, each around the best so far; the best of all wins.

  Args:
    grids: as far as they have grown.
    best: of each method.
    limits: of `Tune`.
  """
  added = _around(grids, best, limits)
  best = dict(best)
  # Equally many for all.
  total = sum(map(len, next(iter(added.values())).values()))
  scores, spent = {label: {} for label in added}, dict.fromkeys(added, 0)
  for number in range(max(1, *map(len, added.values()))):
    trials = {
      label: _trials(best[label], *list(own.items())[number])
      for label, own in added.items()
      if number < len(own)
    }
    for label, own in trials.items():
      spent[label] += len(own)
    scores = yield Round(trials, total - max(spent.values()))
    for label, own in trials.items():
      best[label] = tune_lib.best([best[label], *own], scores[label])
  found = {}
  for label, own in added.items():
    grid = {
      key: tuple(sorted({*tried, *own.get(index, ())}))
      if index in own
      else tried
      for index, (key, tried) in enumerate(grids[label].items())
    }
    sides = tune_lib.edges(grid, scores[label], best[label], limits)
    found[label] = Found(best[label], bool(sides))
  return found


def _trials(best: Values, axis: int, added: Sequence[Any]) -> list[Values]:
  """The best, with the value of one axis replaced."""
  return [(*best[:axis], value, *best[axis + 1 :]) for value in added]


def _around(
  grids: Mapping[str, Axes], best: Mapping[str, Values], limits: Limits
) -> dict[str, dict[int, list[Any]]]:
  """New values by axis, of each method; equally many for all."""
  most = size(grids) // 2
  axes = {label: _numeric(grid) for label, grid in grids.items()}
  found: dict[str, dict[int, list[Any]]] = {label: {} for label in grids}
  for number in range(most):
    # The n-th numeric axis of all; a method with fewer has had its own.
    owners = [label for label in grids if number < len(axes[label])]
    new = {}
    for label in owners:
      axis = axes[label][number]
      key, values = list(grids[label].items())[axis]
      bounds = notches.limit(key, values, limits)
      per_side = most // len(axes[label])
      new[label] = notches.between(values, best[label][axis], per_side, bounds)
    if all(values is not None for values in new.values()):
      for label, values in new.items():
        found[label][axes[label][number]] = values
  counts = {label: sum(map(len, own.values())) for label, own in found.items()}
  if len(set(counts.values())) > 1:  # One lacks room where others have it.
    return {label: {} for label in grids}
  return found
