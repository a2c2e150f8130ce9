"""What a mask hides has no part in anything; run on all norms by
`tests/norms/test_masks.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors
from tests.contracts import norm_values

CHANNELS = 8
IMAGES, TOKENS = (3, 4, 3, CHANNELS), (3, 6, CHANNELS)


def shape_of(norm):
  """Of x: images where the norm knows pixels, sequences elsewhere."""
  return IMAGES if norm.traits.mixes_positions else TOKENS


def fine_mask(norm, shape):
  """As fine as the norm takes one; the second example is hidden entirely."""
  mask = np.random.default_rng(3).random(shape[:-1]) > 0.4
  mask[1], mask[0].flat[:2] = False, True
  return mask.any((1, 2)) if norm.name == "switchable_norm" else mask


def broadcast(mask, x):
  return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def step_of(norm):
  """(variables, x, mask) to (y, stats) and gradients, of a loss of real y."""

  def loss(params, x, grad_stats, variables, mask):
    held = {**variables, "params": params, "grad_stats": grad_stats}
    y, stats = norm.apply(held, x, mask=mask)
    weight = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    seen = jnp.where(broadcast(mask, y), weight * y, 0)
    return jnp.sum(seen), (y, stats)

  def step(variables, x, mask):
    gradients, results = jax.grad(loss, (0, 1, 2), has_aux=True)(
      variables["params"], x, variables["grad_stats"], variables, mask
    )
    return results, gradients

  return step


class MaskContract:
  """The contract; a subclass parametrizes `case`."""

  def test_what_is_hidden_moves_nothing(self, case):
    """Numbers, NaN and infinity: all bits of what is real stay."""
    norm = case.norm
    shape = shape_of(norm)
    variables, x = norm_values.inputs(norm, shape)
    variables, x = norm_values.to(jnp.float32, (variables, x))
    mask = fine_mask(norm, shape)
    real = np.broadcast_to(broadcast(mask, x), shape)
    step = jax.jit(step_of(norm))
    (y, stats), (params, dx, grad_stats) = step(variables, x, mask)
    assert np.isfinite(y).all()
    assert np.abs(dx[real]).max() > 1e-3
    np.testing.assert_array_equal(dx[~real], 0)
    for hidden in (7.0, 1e30, np.nan, np.inf):
      results, gradients = step(variables, jnp.where(real, x, hidden), mask)
      assert np.isfinite(results[0]).all()
      np.testing.assert_array_equal(results[0][real], y[real])
      jax.tree.map(np.testing.assert_array_equal, results[1], stats)
      jax.tree.map(
        np.testing.assert_array_equal, gradients, (params, dx, grad_stats)
      )

    # Nothing is left: no NaN, and statistics stay.
    (y, stats), gradients = step(variables, x * jnp.nan, np.zeros_like(mask))
    for leaf in jax.tree.leaves((y, gradients)):
      assert np.isfinite(leaf).all()
    for name, value in stats.items():
      if not norm_values.is_counter(value) and "buffer_x2" not in stats:
        # A running value that takes in itself, which rounds. (A window goes on
        # with what it has.)
        np.testing.assert_allclose(
          value, variables["stats"][name], rtol=4 * 2**-24
        )

  def test_equals_what_is_left_alone(self, case):
    """A mask of equal parts of all examples, beside those parts alone."""
    norm = case.norm
    # Sequences where they are taken; the other test has images.
    shape = IMAGES if norm.traits.spatial_only else TOKENS
    variables, x = norm_values.inputs(norm, shape)
    mask = np.zeros(shape[:2], bool)
    mask[:, 1:4] = True
    if norm.name == "switchable_norm":
      with pytest.raises(errors.UserError, match="mask is of whole images"):
        norm.apply(variables, jnp.asarray(x), mask=mask)
      return
    weight = np.cos(np.arange(x.size)).reshape(shape)

    @jax.jit
    def masked(variables, x):
      (y, stats), (params, dx, grad_stats) = step_of(norm)(variables, x, mask)
      evaluated, _ = norm.apply(variables, x, train=False, mask=mask)
      own = (a[:, 1:4] for a in (y, dx, evaluated))
      return *own, stats, params, grad_stats

    @jax.jit
    def alone(variables, x, weight):
      gradients, (y, stats) = norm_values.gradient(norm)(variables, x, weight)
      evaluated, _ = norm.apply(variables, x, train=False)
      params, dx, grad_stats = gradients
      return y, dx, evaluated, stats, params, grad_stats

    with jax.enable_x64(True):
      variables = jax.tree.map(jnp.asarray, variables)
      norm_values.assert_close(
        masked(variables, jnp.asarray(x)),
        alone(variables, *(jnp.asarray(a[:, 1:4]) for a in (x, weight))),
        4 * norm_values.tolerance(x, np.float64),
      )

  def test_what_is_handed_on(self, case):
    """A statistic for the next site sees no more of it."""
    norm = case.norm
    x = jnp.asarray(np.random.default_rng(0).normal(size=TOKENS), jnp.float32)
    variables = norm.init((CHANNELS,))
    mask = np.arange(6) < np.array([[6], [2], [3]])
    handed = [
      norm.context_for_next(variables, given, branch_gain=0.5, mask=mask)
      for given in (x, jnp.where(mask[..., None], x, jnp.nan))
    ]
    assert (handed[0] is None) == (norm.context_for_next_fn is None)
    if handed[0] is not None:
      np.testing.assert_array_equal(*handed)
      assert np.isfinite(handed[0]).all()
