"""The runs of many sweeps at once: tuning, then the final seeds.

Follows `sweep.plan` and `sweep.tune` on a grid with one axis of equal ratios,
on which a rate is a number of notches from the grid's centre; quasi-random
points are in notches, too. A test drives the planner itself through the same
sweeps, and compares.

    s sweep   f tuning (of a final seed, or the one that all share)
    m method  k value of the grid, in its largest growth   n final seed
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from normjax.simulate.protocol import NONE, PER_SEED, QUASI_RANDOM, Protocol
from normjax.simulate.surface import Surface

Score = Callable[[np.ndarray], np.ndarray]


class Valleys(NamedTuple):
  """Of each method of each sweep: one per (s, 1, m).

  Attributes:
    curvature: loss per squared notch.
    optimum: in notches from the grid's centre.
    cliff: times the curvature above the optimum; of all.
  """

  curvature: np.ndarray
  optimum: np.ndarray
  cliff: float = 1.0

  def penalty(self, notch: np.ndarray) -> np.ndarray:
    """What a rate off the optimum costs, on average."""
    distance = notch - self.optimum
    loss = self.curvature * np.square(distance)
    if self.cliff == 1:
      return loss
    return loss * np.where(distance > 0, self.cliff, 1)


def draw_valleys(
  protocol: Protocol,
  surface: Surface,
  sweeps: int,
  random: np.random.Generator,
) -> Valleys:
  """The methods of each sweep."""
  notch = math.log(protocol.factor)
  shape = (sweeps, 1, protocol.methods)
  low, high = np.log(surface.curvature)
  reach = surface.misplaced / notch
  return Valleys(
    np.exp(random.uniform(low, high, shape)) * notch**2,
    random.uniform(-reach, reach, shape),
    surface.cliff,
  )


def final_losses(
  protocol: Protocol,
  surface: Surface,
  level: np.ndarray,
  sweeps: int,
  random: np.random.Generator,
) -> np.ndarray:
  """Tunes every method of every sweep, and runs its final seeds.

  Args:
    protocol: of all sweeps.
    surface: of all runs.
    level: (m,), the mean loss of each method at its optimum.
    sweeps: how many.
    random: consumed.

  Returns:
    (s, n, m), in a run's standard deviations.
  """
  valleys = draw_valleys(protocol, surface, sweeps, random)
  shape = (sweeps, protocol.seeds, protocol.methods)
  shared = random.standard_normal((*shape[:2], 1), np.float32)
  loss = level + random.standard_normal(shape, np.float32)
  loss += surface.shared_sd * shared
  if protocol.tuning != NONE:
    loss += valleys.penalty(tune(protocol, surface, valleys, random))
  return loss


def tune(
  protocol: Protocol,
  surface: Surface,
  valleys: Valleys,
  random: np.random.Generator,
) -> np.ndarray:
  """The chosen rates, in notches: (s, n, m), or (s, 1, m) where shared.

  What all trials of one method and seed share moves no choice: left out.
  """
  per_seed = protocol.tuning == PER_SEED
  count = 1 if per_seed else protocol.tuning_seeds
  trial_sd = math.sqrt((1 - surface.own_share) / count)

  def score(notch_sfm: np.ndarray) -> np.ndarray:
    noise = random.standard_normal(notch_sfm.shape, np.float32)
    return valleys.penalty(notch_sfm) + trial_sd * noise

  tunings = protocol.seeds if per_seed else 1
  shape = (len(valleys.optimum), tunings, protocol.methods)
  if protocol.search == QUASI_RANDOM:
    return _best_of_points(protocol, score, shape, random)
  return choose(protocol, score, shape)


def _best_of_points(
  protocol: Protocol,
  score: Score,
  shape: tuple[int, int, int],
  random: np.random.Generator,
) -> np.ndarray:
  """The best of points that each tuning draws anew, for all methods alike."""
  points = np.arange(protocol.values) - protocol.values / 2
  points = points + random.random((*shape[:2], 1, protocol.values))
  chosen, lowest = np.zeros(shape), np.full(shape, np.inf)
  for index in range(protocol.values):
    notch = np.broadcast_to(points[..., index], shape)
    new = score(notch)
    chosen = np.where(new < lowest, notch, chosen)
    lowest = np.minimum(new, lowest)
  return chosen


def choose(
  protocol: Protocol, score: Score, shape: tuple[int, int, int]
) -> np.ndarray:
  """The best of a grid, of its growth, and of a second pass.

  Args:
    protocol: how the search goes.
    score: from notches to the scores of trials there, both (s, f, m).
    shape: (s, f, m).
  """
  notches_k = np.arange(protocol.widest) - (protocol.widest - 1) / 2
  scores = np.stack([score(np.full(shape, x)) for x in notches_k], axis=-1)
  best = _best_of_grid(protocol, scores)
  chosen = middle = notches_k[best]
  lowest = np.take_along_axis(scores, best[..., None], -1)[..., 0]
  for half in (-0.5, 0.5) if protocol.second_pass else ():
    new = score(middle + half)
    chosen = np.where(new < lowest, middle + half, chosen)
    lowest = np.minimum(new, lowest)
  return chosen


def _best_of_grid(protocol: Protocol, scores: np.ndarray) -> np.ndarray:
  """The best value of each grid once it has grown: its index, (s, f, m).

  Where the best of one method lies on an edge, the grids of all grow by one
  value: there, else on the side that is nearer to their own best.
  """
  indices = np.arange(scores.shape[-1])
  low = np.full(scores.shape[:-1], protocol.max_extensions)
  high = low + protocol.values - 1
  for extension in range(protocol.max_extensions + 1):
    inside = (indices >= low[..., None]) & (indices <= high[..., None])
    best = np.where(inside, scores, np.inf).argmin(-1)
    if extension < protocol.max_extensions:
      on_edge = (best == low) | (best == high)
      grows = on_edge.any(-1, keepdims=True)
      up = (best == high) | ((best != low) & (best >= (low + high) / 2))
      low = low - (grows & ~up)
      high = high + (grows & up)
  return best
