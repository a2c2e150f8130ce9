"""The schedule of batch renormalization, and what it lies between."""

import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms
from tests import support

X = support.normal(8, 5) * 3 + 2
# Sums of 8 numbers below 16, a few roundings, and r and d behind them.
ATOL = 32 * 16 * 2**-24


def at(norm, steps):
  variables = norm.init((5,))
  stats = {**variables["stats"], "steps": jnp.int32(steps)}
  return {**variables, "stats": stats}


def test_warm_up_is_batch_norm():
  norm = norms.make("batch_renorm")
  batch_norm = norms.make("batch_norm")
  expected, _ = batch_norm.apply(batch_norm.init((5,)), X)
  for steps in (0, 4999):
    y, _ = norm.apply(at(norm, steps), X)
    np.testing.assert_allclose(y, expected, rtol=0, atol=ATOL)
  # Step 6000 is the first of these that may correct.
  y, _ = norm.apply(at(norm, 5999), X)
  assert np.abs(y - expected).max() > 1e-2


def test_without_clipping_training_is_evaluation():
  norm = norms.make("batch_renorm", r_max=100.0, d_max=100.0)
  variables = at(norm, 50_000)
  y, _ = norm.apply(variables, X)
  expected, _ = norm.apply(variables, X, train=False)
  np.testing.assert_allclose(y, expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize(
  ("step", "r", "d"),
  [(5_000, 1, 0), (15_000, 11 / 7, 2.5), (25_000, 15 / 7, 5), (40_000, 3, 5)],
)
def test_bounds_rise_linearly(step, r, d):
  """Shown by a batch that is clipped: its spread and mean are the bounds."""
  norm = norms.make("batch_renorm")
  y, stats = norm.apply(at(norm, step - 1), 100 * X + 1000)
  assert stats["steps"] == step
  np.testing.assert_allclose(np.std(y, axis=0), r, rtol=1e-5)
  np.testing.assert_allclose(np.mean(y, axis=0), d, rtol=0, atol=1e-4)


def test_options_say_what_is_allowed():
  for options, message in (
    ({"r_max": 0.5}, "=0.5; allowed: .* >= 1"),
    ({"d_max": -1}, "=-1; allowed: .* >= 0"),
    ({"warmup_steps": -1}, "=-1; allowed: .* >= 0"),
    ({"d_max_steps": 10}, "d_max_steps=10 .* >= warmup_steps=5000"),
  ):
    with pytest.raises(errors.UserError, match=message):
      norms.make("batch_renorm", **options)
  norm = norms.make("batch_renorm")
  with pytest.raises(errors.UserError, match="more than one value"):
    norm.apply(norm.init((5,)), X[:1])
