"""Tuning as a function of results: searches ask for trials, results answer."""

import collections
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from normjax import errors
from normjax.record.comparison import Tuning
from normjax.record.directory import RunState
from normjax.sweep import checks
from normjax.sweep.points import Point, Result, Results
from normjax.sweep.search import SEARCHES, Axes, Found, Rounds, Values
from normjax.sweep.spec import Sweep


class Tuned(NamedTuple):
  """How far one tuning has come.

  Attributes:
    trials: of all rounds so far.
    later: runs per method that will follow in any case.
    found: the best values of each method; empty while a trial has no result.
      One whose every trial failed has none.
  """

  trials: Sequence[Point]
  later: int = 0
  found: Mapping[str, Found] = {}

  def size(self) -> int:
    """The most trials that a method has, those to follow too."""
    counts = collections.Counter(point.method for point in self.trials)
    return max(counts.values(), default=0) + self.later


class Tuner:
  """The searches of a sweep: trials out, results in."""

  def __init__(
    self,
    sweep: Sweep,
    grids: Mapping[str, Axes],
    leaves: Mapping[str, Mapping[str, Any]],
    make: Callable[..., Point],
  ):
    """Remembers nothing of results.

    Args:
      sweep: whose tuning it is.
      grids: of each method, before any growth.
      leaves: the resolved config of each, by dotted path.
      make: the point of a stage, a label, tuned values, a seed and the final
        seed that it is for.

    Raises:
      UserError: methods' budgets would differ.
    """
    self._sweep = sweep
    self._grids = grids
    self._make = make
    # A search may start from a method's own values.
    self._own = {
      label: tuple(checks.frozen(leaves[label].get(key)) for key in grid)
      for label, grid in grids.items()
    }
    if grids:
      for tuning in sweep.tunings:
        self._start(grids, tuning)

  def together(self, results: Results, tuning: Tuning) -> Tuned:
    """The trials that are known, and what their results choose.

    Args:
      results: of what is over.
      tuning: which.
    """
    return self._of(self._grids, results, tuning)

  def alone(self, results: Results, tuning: Tuning, all_trials: Tuned) -> Tuned:
    """The tuning of each method as if there were no other.

    Args:
      results: of what is over.
      tuning: which.
      all_trials: how far the tuning of all has come; its trials stay.
    """
    trials: list[Point] = []
    later, found = 0, {}
    for label, grid in self._grids.items():
      alone = self._of({label: grid}, results, tuning)
      own = [point for point in all_trials.trials if point.method == label]
      trials += {p.run_id: p for p in (*own, *alone.trials)}.values()
      later = max(later, alone.later)
      found |= alone.found
    return Tuned(trials, later, found)

  def _of(
    self, grids: Mapping[str, Axes], results: Results, tuning: Tuning
  ) -> Tuned:
    """The tuning of some methods together."""
    points: dict[tuple[str, Values], list[Point]] = {}
    rounds = self._start(grids, tuning)
    asked = next(rounds)
    while True:
      for label, trials in asked.trials.items():
        for values in trials:
          if (label, values) not in points:
            points[label, values] = self._trials(label, values, tuning)
      known = [point for own in points.values() for point in own]
      ended = {p.run_id: results.get(p.run_id) for p in known}
      if None in ended.values():
        return Tuned(known, asked.later * len(tuning.seeds))
      scores: dict[str, dict[Values, float | None]] = {}
      for (label, values), own in points.items():
        scores.setdefault(label, {})[values] = _mean(
          [score(self._sweep, ended[point.run_id]) for point in own]
        )
      try:
        asked = rounds.send(scores)
      except StopIteration as over:
        # Of a method whose every trial failed nobody knows a good value: it
        # has no final runs, rather than some at values that nothing chose.
        found = {
          label: best
          for label, best in over.value.items()
          if any(each is not None for each in scores[label].values())
        }
        return Tuned(known, 0, found)

  def _start(self, grids: Mapping[str, Axes], tuning: Tuning) -> Rounds:
    """A search from its beginning."""
    tune = self._sweep.tune
    own = {label: self._own[label] for label in grids}
    search = SEARCHES.get(tune.search)
    return search(grids, tune, own=own, seed=tuning.seeds[0])

  def _trials(self, label: str, values: Values, tuning: Tuning) -> list[Point]:
    """The runs of one setting, one per seed of the tuning."""
    tuned = dict(zip(self._grids[label], values, strict=True))
    return [
      self._make("tune", label, tuned, seed, tuning.for_seed)
      for seed in tuning.seeds
    ]


def score(sweep: Sweep, result: Result) -> float | None:
  """A result as a number to minimise: inf diverged, None failed.

  Raises:
    UserError: the run is done but has no such metric.
  """
  if result["state"] == RunState.FAILED:
    return None
  if result["state"] == RunState.DIVERGED:
    return math.inf
  metrics = result["metrics"]
  if sweep.metric not in metrics:
    raise errors.UserError(
      f"no metric {sweep.metric!r} in the results of run"
      f" {result.get('run_id')}; there are: {', '.join(sorted(metrics))}."
    )
  value = metrics[sweep.metric]
  if value is None:  # null in JSON: not finite
    return math.inf
  return value if sweep.mode == "min" else -value


def _mean(scores: list[float | None]) -> float | None:
  known = [value for value in scores if value is not None]
  return None if len(known) < len(scores) else sum(known) / len(known)
