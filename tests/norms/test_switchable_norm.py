"""What switchable normalization chooses between, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms
from tests import support

X = support.normal(4, 3, 3, 8) * 2 + 1
NORM = norms.make("switchable_norm")


@pytest.mark.parametrize(
  ("kind", "axes", "pixels"),
  [(0, (1, 2), 9), (1, (1, 2, 3), 9), (2, (0, 1, 2), 9)],
)
def test_a_logit_that_wins_leaves_one_norm(kind, axes, pixels):
  """All within-image variances are over n - 1, those between images over n."""
  variables = NORM.init((8,))
  logits = jnp.full(3, -100.0).at[kind].set(100.0)
  params = {**variables["params"], "mean_weight": logits, "var_weight": logits}
  y, _ = NORM.apply({**variables, "params": params}, X)
  x = np.float64(X)
  within = x.var((1, 2), keepdims=True)
  variance = x.var(axes, keepdims=True)
  outer = tuple(axis for axis in axes if axis not in (1, 2))
  variance += within.mean(outer, keepdims=True) / (pixels - 1)
  expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(variance + 1e-5)
  # Sums of 72 numbers below 10.
  np.testing.assert_allclose(y, expected, rtol=0, atol=72 * 10 * 2**-24)


def test_starts_with_thirds_and_statistics_of_zero():
  made = NORM.init((8,))
  np.testing.assert_array_equal(made["params"]["var_weight"], jnp.ones(3))
  assert not made["stats"]["var"].any()


def test_one_pixel_and_masks_of_pixels_are_errors():
  variables = NORM.init((8,))
  with pytest.raises(errors.UserError, match="two pixels or more"):
    NORM.apply(variables, X[:, :1, :1])
  for train in (True, False):
    with pytest.raises(errors.UserError, match="mask is of whole images"):
      NORM.apply(variables, X, train=train, mask=jnp.ones((4, 3)))
  with pytest.raises(errors.UserError, match="running statistics"):
    NORM.apply({"params": variables["params"]}, X, train=False)
