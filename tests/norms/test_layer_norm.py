"""Layer normalization against Flax's."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from normjax import errors, norms
from tests import support


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_equals_flax(dtype):
  x = 5 + 2 * support.normal(4, 6, 32).astype(dtype)
  variables = norms.make("layer_norm").init((32,))
  flax = linen.LayerNorm(epsilon=1e-6, use_fast_variance=False, dtype=dtype)
  expected = flax.apply({"params": variables["params"]}, x)
  y, stats = norms.make("layer_norm", eps=1e-6).apply(variables, x)
  assert y.dtype == expected.dtype == dtype
  assert stats == {}
  # Both sum 32 terms in float32 and round once: n u, and one unit of dtype.
  np.testing.assert_allclose(
    np.float32(y),
    np.float32(expected),
    rtol=float(jnp.finfo(dtype).eps),
    atol=32 * 2**-24 * 4,
  )


def test_images_are_normalised_pixel_by_pixel():
  norm = norms.make("layer_norm")
  variables = norm.init((2, 3, 8))
  assert variables["params"]["scale"].shape == (8,)
  x = support.normal(4, 2, 3, 8)
  y, _ = norm.apply(variables, x)
  pixel, _ = norm.apply(variables, x[1, 1, 2])
  np.testing.assert_allclose(y[1, 1, 2], pixel, rtol=0, atol=8 * 2**-24 * 4)


@pytest.mark.parametrize(
  "name", ["layer_norm", "rms_norm", "dyt", "batch_norm"]
)
def test_another_width_is_named(name):
  norm = norms.make(name)
  variables = norm.init((8,))
  for width in (1, 9):
    with pytest.raises(errors.UserError, match=rf"8 features.*\(4, {width}\)"):
      norm.apply(variables, jnp.ones((4, width)))
