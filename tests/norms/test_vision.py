"""Facts and errors of the norms of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms
from tests import support
from tests.norms import cases

POSITIONS = [
  name for name in norms.names() if cases.make(name).traits.mixes_positions
]
U = 2**-24


def normal(shape, seed=0):
  return support.normal(*shape, seed=seed)


@pytest.mark.parametrize("name", POSITIONS)
def test_what_has_no_positions_is_an_error(name):
  norm = cases.make(name)
  wrong = [(4, 8), (4, 3, 1, 2, 8)]
  wrong += [(4, 3, 8)] if norm.traits.spatial_only else []
  for shape in wrong:
    with pytest.raises(errors.UserError, match=r"images \(b, y, x, c\).*\(4, "):
      norm.apply(norm.init((8,)), jnp.ones(shape))


@pytest.mark.parametrize(
  "name",
  [name for name in norms.names() if "num_groups" in cases.SMALL.get(name, {})],
)
def test_groups_that_do_not_divide_are_an_error(name):
  with pytest.raises(
    errors.UserError, match="num_groups=32 must divide the 48"
  ):
    norms.make(name).init((48,))
  norm = cases.make(name)
  with pytest.raises(errors.UserError):
    norm.apply(norm.init((8,)), jnp.ones((2, 3, 3, 7)))
  with pytest.raises(errors.UserError, match="num_groups=0; allowed: an int"):
    norms.make(name, num_groups=0)


def test_one_group_is_a_layer_norm_of_the_image():
  x = normal((2, 3, 5, 8)) + 3
  norm = norms.make("group_norm", num_groups=1)
  y, _ = norm.apply(norm.init((8,)), x)
  layer = norms.make("layer_norm", eps=1e-5)
  flat = x.reshape(2, -1)
  expected, _ = layer.apply(layer.init(flat.shape[1:]), flat)
  # Sums of 120 numbers below 8.
  np.testing.assert_allclose(
    y.reshape(2, -1), expected, rtol=0, atol=120 * 8 * U
  )


def test_a_group_for_each_channel_is_an_instance_norm():
  x = normal((2, 4, 3, 8)) + 3
  group = norms.make("group_norm", num_groups=8)
  y, _ = group.apply(group.init((8,)), x)
  instance = norms.make("instance_norm", use_scale=False, use_bias=False)
  assert not instance.init((8,))["params"]
  expected, _ = instance.apply({}, x)
  np.testing.assert_allclose(y, expected, rtol=0, atol=12 * 8 * U)


def test_frn_with_its_unit_is_one_activation():
  assert norms.make("frn").traits.contains_activation
  assert not norms.make("frn", tlu=False).traits.contains_activation
  x = normal((2, 3, 3, 8))
  norm = norms.make("frn")
  params = norm.init((8,))["params"]
  y, _ = norm.apply({"params": params}, x)
  del params["tau"]
  bare, _ = norms.make("frn", tlu=False).apply({"params": params}, x)
  np.testing.assert_array_equal(y, jax.nn.relu(bare))


def test_frn_of_one_pixel_needs_its_learned_eps():
  """Without it y is the sign of x; with it a small x stays small."""
  x = jnp.full((1, 1, 1, 8), 1e-2)
  for learned, expected in (
    (False, 1e-2 / np.sqrt(1e-4 + 1e-6)),
    (True, 1e-2 / np.sqrt(1e-4 + 1e-6 + 1e-4)),
  ):
    norm = norms.make("frn", learned_eps=learned)
    y, _ = norm.apply(norm.init((8,)), x)
    np.testing.assert_allclose(y[0, 0, 0], expected, rtol=8 * U)
