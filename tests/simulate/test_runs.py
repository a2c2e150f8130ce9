"""Simulated tuning chooses what the planner chooses."""

import numpy as np
import pytest

from normjax.simulate import Protocol, Surface, runs
from normjax.sweep.search import quasi_random
from tests.simulate.planned import Planned

PROTOCOLS = (
  Protocol(4, 2, tuning="shared", second_pass=False),
  Protocol(3, 2, 4, 2.0, "shared"),
  Protocol(3, 2),
  Protocol(2, 3, 5, 2.0, max_extensions=1, second_pass=False),
)


def _scores(protocol, sweeps, seed):
  """Of every trial that there may be, by half notches: (s, f, m, h)."""
  random = np.random.default_rng(seed)
  tunings = 1 if protocol.tuning == "shared" else protocol.seeds
  count = 2 * protocol.widest + 1
  halves = (np.arange(count) - (count - 1) / 2) / 2
  optimum = random.uniform(-2.5, 2.5, (sweeps, tunings, protocol.methods, 1))
  noise = random.standard_normal((*optimum.shape[:3], count))
  return np.square(halves - optimum) + noise


@pytest.mark.parametrize(
  "protocol",
  PROTOCOLS,
  ids=lambda p: f"{p.tuning}-{p.values}-{p.factor:g}-{p.second_pass}",
)
def test_it_chooses_what_the_planner_chooses(protocol):
  sweeps = 20
  scores = _scores(protocol, sweeps, seed=1)
  middle = (scores.shape[-1] - 1) // 2

  def score(notch):
    index = np.rint(2 * notch).astype(int) + middle
    return np.take_along_axis(scores, index[..., None], -1)[..., 0]

  chosen = runs.choose(protocol, score, scores.shape[:3])
  assert np.ptp(chosen) > protocol.values - 1  # Some grids have grown.
  planned = Planned(protocol)
  for s in range(sweeps):

    def loss(point, s=s):
      if point.stage == "final":
        return 0.0
      method = int(point.overrides["toy.name"])
      tuning = point.for_seed or 0
      return scores[s, tuning, method, int(2 * planned.notch(point)) + middle]

    made = planned.run(loss)
    finals = {
      (int(p.overrides["toy.name"]), p.seed): planned.notch(p)
      for p in made.points
      if p.stage == "final"
    }
    assert finals == {
      (m, seed): chosen[s, seed if chosen.shape[1] > 1 else 0, m]
      for m in range(protocol.methods)
      for seed in range(protocol.seeds)
    }


def test_quasi_random_points_are_one_per_part():
  low, high, count = 0.001, 1.0, 8
  for seed in (1000, 1001, 1002):
    drawn = quasi_random.points({"rate": (low, high)}, count, seed)
    unit = np.log([rate / low for (rate,) in drawn]) / np.log(high / low)
    assert sorted((unit * count).astype(int)) == list(range(count))


def test_quasi_random_points_are_the_same_for_all_methods():
  protocol = Protocol(3, 2, 8, search="quasi_random", tuning="per_seed")
  optimum = np.broadcast_to([0.2, 0.2, -3.0], (5, 1, 3))
  valleys = runs.Valleys(np.ones((5, 1, 3)), optimum)
  noiseless = Surface(own_share=1 - 1e-12)
  chosen = runs.tune(protocol, noiseless, valleys, np.random.default_rng(0))
  assert chosen.shape == (5, 2, 3)
  np.testing.assert_array_equal(chosen[..., 0], chosen[..., 1])
  assert np.abs(chosen - optimum).max() < 1
  assert len(np.unique(chosen[..., 0])) == 10  # Others in each tuning.
