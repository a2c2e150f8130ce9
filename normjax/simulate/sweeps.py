"""Simulated sweeps, run and counted."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from normjax import errors
from normjax.record import comparison
from normjax.simulate import protocol as protocol_lib
from normjax.simulate import runs, verdicts
from normjax.simulate.outcome import Outcome
from normjax.simulate.protocol import Protocol
from normjax.simulate.surface import PAIRED_SD, Surface

SWEEPS = 4000
# Of `error_of` for sweeps of many runs, and how many runs it draws.
FEWEST_SWEEPS = 200
_ERROR_RUNS = 5_000_000
# Final runs that are drawn at once: what lies in memory is a few 100 MB.
_BATCH = 200_000


def run(
  protocol: Protocol,
  surface: Surface | None = None,
  *,
  better: int = 0,
  effect: float = 1.0,
  sweeps: int = SWEEPS,
  seed: int = 0,
) -> Outcome:
  """Runs sweeps and counts their verdicts.

  Args:
    protocol: how each proceeds.
    surface: what its runs give; the default one unless given.
    better: methods that are better than the baseline; the others equal it.
    effect: by how much, in standard deviations of the paired difference of
      two runs at their optimum: sqrt(2) of a run's.
    sweeps: how many.
    seed: of the random stream.

  Raises:
    UserError: fewer methods than `better` beside the baseline, or no sweep.
  """
  surface = surface or Surface()
  others = protocol.methods - 1
  if not 0 <= better <= others:
    raise errors.UserError(
      f"{better} methods cannot be better: there are {others} beside the"
      " baseline."
    )
  if sweeps < 1:
    raise errors.UserError(f"sweeps must be >= 1, got {sweeps}.")
  if protocol.seeds < 2 or not others:
    # Nothing is ever decided.
    return _nothing(protocol, surface, sweeps, better, effect)
  level = np.zeros(protocol.methods)
  level[1 : 1 + better] = -effect * PAIRED_SD
  batch = max(1, _BATCH // (protocol.methods * protocol.seeds))
  random = np.random.default_rng(seed)
  p_sm, mean_sm, best_s = [], [], []
  for start in range(0, sweeps, batch):
    losses = runs.final_losses(
      protocol, surface, level, min(batch, sweeps - start), random
    )
    mean, p = verdicts.paired_tests(losses)
    mean_sm.append(mean)
    p_sm.append(p)
    best_s.append(verdicts.best_is_told(losses))
  mean, p, best = map(np.concatenate, (mean_sm, p_sm, best_s))
  return _count(protocol, surface, mean, p, best, better, effect)


# Of the simulated surfaces no best lies so many notches from the first grid.
_MOST_EXTENSIONS = 16


@functools.lru_cache
def error_of(
  methods: int,
  seeds: int,
  *,
  surface: Surface | None = None,
  **protocol: Any,
) -> Outcome:
  """The error of a sweep's protocol where all methods are equal.

  The same numbers give the same answer, in at most a third of a second: a
  sweep of more runs is simulated less often. `str` of it is one sentence.

  Args:
    methods: that are compared, the baseline too.
    seeds: final runs per method.
    surface: what the runs give; the default one unless given.
    **protocol: how they are tuned, as `Protocol` takes it.
  """
  made = Protocol(methods, seeds, **protocol)
  fitting = _ERROR_RUNS // (methods * seeds * made.runs_per_final)
  return run(made, surface, sweeps=max(FEWEST_SWEEPS, min(SWEEPS, fitting)))


def of_sweep(
  methods: int,
  seeds: int,
  tunings: Sequence[comparison.Tuning],
  search: comparison.Search | None,
  *,
  num_tuned: int = 1,
  exact: bool = False,
) -> Outcome | None:
  """The error of a planned sweep, as `error_of` has it.

  Args:
    methods: that are compared, the baseline too.
    seeds: final runs per method.
    tunings: of the plan.
    search: of each.
    num_tuned: numbers that are tuned.
    exact: whether verdicts are of the signed-rank test.

  Returns:
    None where nothing is compared or tuned, or it is none that is simulated:
    the signed-rank test, coordinate descent, one trial, no number with a ratio
    between its values, several numbers, whose coarse grids add up.
  """
  if (
    num_tuned != 1
    or exact
    or not tunings
    or search is None
    or search.factor is None
  ):
    return None
  if methods < 2 or seeds < 2 or search.name not in protocol_lib.SEARCHES:
    return None
  values, factor = search.num_values, search.factor
  if search.name == protocol_lib.QUASI_RANDOM:
    # Its values are the two limits.
    values = tunings[0].trials // len(tunings[0].seeds)
    factor = factor ** (1 / values) if values and factor > 1 else 1.0
  if values < 2 or not 1 < factor < math.inf:
    return None
  is_shared = tunings[0].for_seed is None
  return error_of(
    methods,
    seeds,
    values=values,
    factor=factor,
    tuning=protocol_lib.SHARED if is_shared else protocol_lib.PER_SEED,
    tuning_seeds=len(tunings[0].seeds),
    second_pass=search.second_pass,
    max_extensions=min(search.max_extensions, _MOST_EXTENSIONS),
    search=search.name,
  )


def sentence(
  methods: int,
  seeds: int,
  tunings: Sequence[comparison.Tuning],
  search: comparison.Search | None,
  *,
  num_tuned: int = 1,
  exact: bool = False,
  has_ladder: bool = False,
) -> str:
  """What `of_sweep` found, or why there is nothing; for people.

  Args:
    methods: see `of_sweep`.
    seeds: likewise.
    tunings: likewise.
    search: likewise.
    num_tuned: likewise.
    exact: likewise.
    has_ladder: whether rows take values from another rung's tuning.

  Returns:
    "" where nothing is tuned, or nothing compared, or a plan of an earlier
    version does not say how.
  """
  if methods < 2 or seeds < 2 or not tunings or search is None:
    return ""
  why = "the tuned values have no ratio"
  if has_ladder:
    why = "rows of a ladder take values from another rung's tuning"
  elif exact:
    why = "verdicts are of the signed-rank test"
  elif search.name not in protocol_lib.SEARCHES:
    why = f"the search is {search.name!r}"
  elif num_tuned > 1:
    why = (
      f"{num_tuned} numbers are tuned. What a grid leaves of each adds up, so"
      " that few values far apart err more often than 5%"
    )
  elif error := of_sweep(methods, seeds, tunings, search, num_tuned=num_tuned):
    return str(error)
  return f"The error of this protocol is not simulated: {why}."


def _nothing(
  protocol: Protocol, surface: Surface, sweeps: int, better: int, effect: float
) -> Outcome:
  """Of sweeps that decide nothing."""
  equal = protocol.methods - 1 - better
  return Outcome(
    protocol,
    surface,
    sweeps,
    better,
    effect,
    family_wise=0.0,
    unadjusted_family_wise=0.0,
    best=None if better else 0.0,
    per_comparison=0.0 if equal else None,
    power=0.0 if better else None,
    unadjusted_power=0.0 if better else None,
  )


def _count(
  protocol: Protocol,
  surface: Surface,
  mean: np.ndarray,
  p: np.ndarray,
  best: np.ndarray,
  better: int,
  effect: float,
) -> Outcome:
  """Counts verdicts.

  Args:
    protocol: of all sweeps.
    surface: of all runs.
    mean: differences to the baseline, (s, m - 1).
    p: of them.
    best: whether one method was called best, (s,).
    better: how many methods are so in truth; they are the first.
    effect: by how much.
  """
  counts = []
  for adjusted in (p, verdicts.holm(p)):
    decided = adjusted < verdicts.ALPHA
    found = decided[:, :better] & (mean[:, :better] < 0)
    wrong = decided.copy()
    wrong[:, :better] &= mean[:, :better] > 0
    counts.append((wrong, found))
  (wrong, found), (wrong_holm, found_holm) = counts
  equal = wrong[:, better:]
  return Outcome(
    protocol=protocol,
    surface=surface,
    sweeps=len(p),
    better=better,
    effect=effect,
    family_wise=float(wrong_holm.any(1).mean()),
    unadjusted_family_wise=float(wrong.any(1).mean()),
    best=None if better else float(best.mean()),
    per_comparison=float(equal.mean()) if equal.size else None,
    power=float(found_holm.mean()) if better else None,
    unadjusted_power=float(found.mean()) if better else None,
  )
