"""Square-root Sinkhorn: the numbers of arXiv:2502.06742's algorithm 3."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import optim
from tests.optim import references


def skewed(shape=(256, 64), seed=0):
  """A kernel (in, out) with log-normal scales of rows and columns."""
  rng = np.random.default_rng(seed)
  rows, columns = (
    np.exp(1.5 * rng.normal(size=side))
    for side in ((shape[0], 1), (1, shape[1]))
  )
  return rng.normal(size=shape) * rows * columns


def balanced(x, **options):
  with jax.enable_x64(True):
    tx = optim.scale_by_sinkhorn(**options)
    x = jnp.asarray(x)
    updates, state = jax.jit(tx.update)(x, tx.init(x))
    assert not jax.tree.leaves(state)
    return np.asarray(updates)


@pytest.mark.parametrize("num_iters", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("first", ["output", "reduction"])
def test_equals_the_algorithm_on_the_transpose(num_iters, first):
  x = skewed()
  actual = balanced(x, num_iters=num_iters, first=first)
  expected = references.sinkhorn(x.T, num_iters, first).T
  # Sums of 256 terms in float64, twice a round.
  tolerance = 512 * num_iters * 2.0**-53
  np.testing.assert_allclose(actual, expected, rtol=tolerance)
  # The last operation makes one side exact, so the whole has RMS 1.
  np.testing.assert_allclose(np.mean(actual**2), 1, rtol=tolerance)
  exact_axis = 1 if first == "output" else 0
  norms = np.mean(actual**2, axis=exact_axis)
  np.testing.assert_allclose(norms, 1, rtol=tolerance)


def test_other_side_converges():
  """The spread of the units' RMS falls by orders of magnitude a round."""
  deviations = []
  for num_iters in (1, 2, 3, 5, 10):
    x = balanced(skewed(), num_iters=num_iters)
    rms = np.sqrt(np.mean(x**2, axis=0))
    deviations.append(np.abs(rms - 1).max())
  assert deviations == sorted(deviations, reverse=True)
  assert deviations[0] > 0.1
  assert deviations[3] < 1e-5
  assert deviations[4] < 1e-10


def test_order_matters_for_few_rounds():
  x = skewed()
  gaps = [
    np.linalg.norm(
      balanced(x, num_iters=n) - balanced(x, num_iters=n, first="reduction")
    )
    / np.sqrt(x.size)
    for n in (1, 5)
  ]
  assert gaps[0] > 0.1
  assert gaps[1] < 1e-4


def test_zero_rows_and_columns_stay_zero():
  x = skewed((8, 6))
  x[2] = 0
  x[:, 4] = 0
  y = balanced(x)
  assert not y[2].any()
  assert not y[:, 4].any()
  rest = np.delete(np.delete(y, 2, 0), 4, 1)
  alone = balanced(np.delete(np.delete(x, 2, 0), 4, 1))
  # A unit keeps sqrt(inputs) of the whole matrix: only the factor differs.
  np.testing.assert_allclose(rest / rest[0, 0], alone / alone[0, 0], rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_scale_does_not_matter(scale):
  x = jnp.asarray(skewed((16, 8)), jnp.float32)
  tx = optim.scale_by_sinkhorn()
  expected, _ = tx.update(x, tx.init(x))
  actual, _ = tx.update(x * jnp.float32(scale), tx.init(x))
  # x * scale is rounded, and so are ten norms of 16 terms.
  np.testing.assert_allclose(actual, expected, rtol=200 * 2.0**-24)


def test_batched_axes_are_independent():
  x = np.stack([skewed((8, 6), seed) for seed in range(3)])
  both = balanced(x)
  for one, alone in zip(both, x, strict=True):
    np.testing.assert_allclose(one, balanced(alone), rtol=1e-12)


def test_vectors_pass_unchanged():
  params = {"kernel": jnp.ones((3, 2)), "bias": jnp.full(2, 7.0)}
  tx = optim.scale_by_sinkhorn()
  updates, _ = tx.update(params, tx.init(params))
  np.testing.assert_array_equal(updates["bias"], params["bias"])
  np.testing.assert_allclose(updates["kernel"], 1, rtol=1e-6)


def test_step_ignores_the_gradient_s_size():
  params = {"kernel": jnp.ones((4, 3))}
  tx = optim.sinkgd(0.1, matrix_scale=0.5)
  gradient = jnp.asarray(skewed((4, 3)), jnp.float32)
  for factor in (1.0, 1e3):
    updates, _ = tx.update(
      {"kernel": factor * gradient}, tx.init(params), params
    )
    rms = jnp.sqrt(jnp.mean(updates["kernel"] ** 2))
    np.testing.assert_allclose(rms, 0.05, rtol=1e-5)
