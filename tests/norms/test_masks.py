"""Every norm of the table keeps the contract of masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import norms
from tests import support
from tests.contracts import norm_masks
from tests.norms import cases


@pytest.mark.parametrize("case", cases.default_cases(), ids=str)
class TestMasks(norm_masks.MaskContract):
  """The shared contract, with defaults."""


@pytest.mark.parametrize("name", ["power_norm", "unified_norm"])
def test_the_official_option_lets_padding_into_the_gradients(name):
  """What the option is for: padding moves what the contract holds still."""
  norm = norms.make(name, padding_in_gradient=True)
  variables = norm.init((8,))
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(3, 6, 8)), jnp.float32)
  variables["grad_stats"]["ema_gz"] += 0.5
  mask = np.arange(6) < np.array([[6], [2], [3]])
  step = jax.jit(norm_masks.step_of(norm))
  changed = jnp.where(mask[..., None], x, x + 3)
  (y, _), (_, dx, _) = step(variables, x, mask)
  (other, _), (_, moved, _) = step(variables, changed, mask)
  np.testing.assert_array_equal(y[mask], other[mask])
  assert np.abs(dx[~mask]).max() > 1e-3
  assert np.abs(moved - dx).max() > 1e-2
  assert norm.traits.padding_in_gradient


@pytest.mark.parametrize(
  "name", ["evonorm_b0", "evonorm_b1", "evonorm_b2", "bcn"]
)
def test_pixels_are_out_of_an_images_own_moments(name):
  """In evaluation, too, where only those are left."""
  norm = cases.make(name)
  x = support.normal(2, 4, 3, 8)
  mask = np.ones((2, 4, 3), bool)
  mask[0, 1:, 2] = False
  changed = jnp.where(mask[..., None], x, 9.0)
  for train in (True, False):
    y, _ = norm.apply(norm.init((8,)), x, mask=mask, train=train)
    other, _ = norm.apply(norm.init((8,)), changed, mask=mask, train=train)
    np.testing.assert_array_equal(y[mask], other[mask])
