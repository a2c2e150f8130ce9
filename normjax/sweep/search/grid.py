"""All combinations of a grid's values, then a second pass around the best.

Methods with as many values on each axis grow together: where the best of some
lies on an edge, all grids grow by a notch. A method that lacks a key of the
others spends the same budget on a finer grid of those that it has, as 9 values
against 3 x 3. Such grids do not grow: a notch would make them unequal.
"""

import math
from collections.abc import Mapping

from normjax import errors
from normjax.sweep import tune as tune_lib
from normjax.sweep.search import Axes, Found, Round, Rounds, Values, second_pass
from normjax.sweep.tune_spec import Tune


def search(
  grids: Mapping[str, Axes], tune: Tune, *, own: Mapping[str, Values], seed: int
) -> Rounds:
  """The search; see `normjax.sweep.search`.

  Raises:
    UserError: two grids have different numbers of trials.
  """
  del own, seed
  check(grids)
  if tune.second_pass:
    second_pass.check(grids)
  return _rounds(dict(grids), tune)


def check(grids: Mapping[str, Axes]) -> None:
  """Raises UserError, naming two methods, where budgets differ."""
  counts = {
    label: [len(values) for values in grid.values()]
    for label, grid in grids.items()
  }
  first, *_ = counts
  for label, count in counts.items():
    if math.prod(count) != math.prod(counts[first]):
      raise errors.UserError(
        "every method gets the same number of trials:"
        f" {first!r} has {tune_lib.product_of(counts[first])}, {label!r} has"
        f" {tune_lib.product_of(count)}."
      )


def _rounds(grids: dict[str, Axes], tune: Tune) -> Rounds:
  extensions = 0
  can_grow = tune_lib.are_level(grids)
  later = second_pass.size(grids) if tune.second_pass else 0
  while True:
    scores = yield Round(
      {label: tune_lib.trials(grid) for label, grid in grids.items()}, later
    )
    best, sides = {}, {}
    for label, grid in grids.items():
      best[label] = tune_lib.best(tune_lib.trials(grid), scores[label])
      sides[label] = tune_lib.edges(
        grid, scores[label], best[label], tune.limits
      )
    is_over = extensions == tune.max_extensions or not can_grow
    if is_over or not any(sides.values()):
      break
    grown = tune_lib.grow_all(grids, best, sides, tune.limits)
    if grown is None:
      break
    grids = grown
    extensions += 1
  if tune.second_pass:
    return (yield from second_pass.rounds(grids, best, tune.limits))
  return {label: Found(best[label], bool(sides[label])) for label in grids}
