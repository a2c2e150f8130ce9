"""Points that fill the space evenly, equally many for every method.

Scrambled Halton points (`scipy.stats.qmc`), as AlgoPerf draws its trials; the
seed is that of the trials, so that repeated tuning sees other points each time.
The n-th axis of all methods has the same coordinates. Numbers are given by
their limits, (low, high): log-uniform between them where low > 0, uniform
otherwise; whole numbers where both limits are whole. Other values are drawn
from the list, each alike often.

The budget is `Tune.trials`, whatever the axes: the search for methods that have
different numbers to tune. There is no growth and no second pass, and a best
value is on an edge nowhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from normjax import errors
from normjax.sweep import tune as tune_lib
from normjax.sweep.checks import is_number
from normjax.sweep.search import Axes, Found, Round, Rounds, Values
from normjax.sweep.space import readable
from normjax.sweep.tune_spec import Tune

_DIGITS = 3  # Of a value: one that people can read.


def search(
  grids: Mapping[str, Axes], tune: Tune, *, own: Mapping[str, Values], seed: int
) -> Rounds:
  """The search; see `normjax.sweep.search`.

  Raises:
    UserError: numbers that are not (low, high), or fewer than `Tune.trials`
      different points between them.
  """
  del own
  for label, grid in grids.items():
    for key, values in grid.items():
      if all(map(is_number, values)) and len(values) != 2:
        raise errors.UserError(
          f"Tune.space[{key!r}] of {label!r}: 'quasi_random' needs the limits"
          f" (low, high), got {list(values)}."
        )
  count = tune.trials or 0  # `Tune` asks for it.
  trials = {label: points(grid, count, seed) for label, grid in grids.items()}
  for label, own_trials in trials.items():
    if len(own_trials) < count:
      raise errors.UserError(
        f"Tune.trials is {count}, but {label!r} has only"
        f" {len(own_trials)} different points between its limits."
      )
  return _rounds(trials)


def points(grid: Axes, count: int, seed: int) -> list[Values]:
  """The first `count` different points between the limits; fewer if need be."""
  from scipy.stats import qmc  # Late: half a second.

  sampler = qmc.Halton(len(grid), rng=seed)
  found: dict[Values, None] = {}
  # Whole numbers, and names, give some points twice.
  for _ in range(20):
    for unit in sampler.random(count):
      values = tuple(map(_value, grid.values(), unit))
      if len(found) < count:
        found.setdefault(values)
    if len(found) == count:
      break
  return list(found)


def _value(values: Sequence[Any], unit: float) -> Any:
  """The value at a coordinate between 0 and 1."""
  if not all(map(is_number, values)):
    return values[int(unit * len(values))]
  low, high = values
  at = low * (high / low) ** unit if low > 0 else low + unit * (high - low)
  if isinstance(low, int) and isinstance(high, int):
    return round(at)
  return min(max(readable(float(at), _DIGITS), low), high)


def _rounds(trials: Mapping[str, Sequence[Values]]) -> Rounds:
  scores = yield Round(trials)
  return {
    label: Found(tune_lib.best(own, scores[label]), on_edge=False)
    for label, own in trials.items()
  }
