"""Parameters of batch-channel normalization, and its estimated statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import norms
from tests import support

X = support.normal(8, 3, 3, 8) * 2 + 1


def test_second_gain_is_one_a_group():
  params = norms.make("bcn", num_groups=4).init((8,))["params"]
  shapes = {name: value.shape for name, value in params.items()}
  assert shapes == {
    "scale": (8,),
    "bias": (8,),
    "group_scale": (4,),
    "group_bias": (4,),
  }


def test_large_batches_are_batch_norm_then_group_norm():
  norm = norms.make("bcn", num_groups=4)
  y, stats = norm.apply(norm.init((8,)), X)
  first, second = (
    norms.make("batch_norm"),
    norms.make("group_norm", num_groups=4),
  )
  h, expected_stats = first.apply(first.init((8,)), X)
  expected, _ = second.apply(second.init((8,)), h)
  # Sums of 72 numbers below 10.
  atol = 72 * 10 * 2**-24
  np.testing.assert_allclose(y, expected, rtol=0, atol=atol)
  for name, value in expected_stats.items():
    np.testing.assert_allclose(stats[name], value, rtol=0, atol=atol)


@pytest.mark.parametrize("estimated", [True, False])
def test_images_meet_in_estimated_statistics_only(estimated):
  """With the rate 0 gradients of 8 images are those of 8 times one."""
  norm = norms.make("bcn", num_groups=4, estimated=estimated, update_rate=0)
  variables = norm.init((8,))

  def gradient(params, x):
    def loss(params, x):
      y, _ = norm.apply({**variables, "params": params}, x)
      return jnp.sum(jnp.sin(y))

    return jax.grad(loss, argnums=(0, 1))(params, x)

  whole, dx = gradient(variables["params"], X)
  each = [gradient(variables["params"], X[i : i + 1]) for i in range(8)]
  summed = jax.tree.map(lambda *parts: sum(parts), *[p for p, _ in each])
  # Sums of 72 products below 10, and the group norm's gradient in each.
  atol = 72 * 10 * 8 * 2**-24
  same = all(
    np.allclose(whole[name], summed[name], rtol=0, atol=atol) for name in whole
  ) and np.allclose(dx, jnp.concatenate([d for _, d in each]), 0, atol)
  assert same == estimated


def test_estimated_variance_is_about_the_old_mean():
  """From 0 and 1, with the rate r: r mean and (1 - r) + r mean(x^2)."""
  norm = norms.make("bcn", num_groups=4, estimated=True, update_rate=0.2)
  _, stats = norm.apply(norm.init((8,)), X)
  x = np.float64(X)
  close = {"rtol": 90 * 2**-24, "atol": 72 * 8 * 2**-24}
  np.testing.assert_allclose(stats["mean"], 0.2 * x.mean((0, 1, 2)), **close)
  np.testing.assert_allclose(
    stats["var"], 0.8 + 0.2 * (x**2).mean((0, 1, 2)), **close
  )
