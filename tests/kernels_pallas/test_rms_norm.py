"""Every implementation of rms_norm against float64 NumPy.

A row's sum of d squares has a relative error below d u, u = 2^-24; the sum
over rows of the scale's gradient one below (rows) u of the summed magnitudes;
output in bfloat16 adds half a unit of bfloat16.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import contract as contract_lib
from kernels_pallas import dispatch, tiles
from kernels_pallas.rms_norm import blocks, gpu, ref, rms_norm, tpu, xla
from tests.kernels_pallas import contract

EPS = 1e-5
IMPLEMENTATIONS = {
  "reference": ref.rms_norm,
  "xla": xla.rms_norm,
  "xla_blocks": blocks.rms_norm,
  "pallas_tpu": lambda x, scale, eps: tpu.rms_norm(
    x, scale, None, eps, interpret=True
  ),
}


def numpy_rms_norm(x, scale, dy, eps=EPS):
  """y, dx and dscale in float64, written out."""
  rms = np.sqrt((x**2).mean(-1, keepdims=True) + eps)
  normalized, g = x / rms, dy * scale
  inner = (g * x).sum(-1, keepdims=True) / x.shape[-1]
  dx = g / rms - x * inner / rms**3
  dscale = (dy * normalized).reshape(-1, x.shape[-1]).sum(0)
  return normalized * scale, dx, dscale


def transcription(x, scale, residual, dy, dh=0, eps=EPS):
  """Of the op: y, with a residual h as well, and the gradients."""
  h = x if residual is None else x + residual
  y, dx, dscale = numpy_rms_norm(h, scale, dy, eps)
  if residual is None:
    return y, dx, dscale
  return y, h, dx + dh, dscale, dx + dh


def data(shape, dtype):
  """A row of other magnitude each; values that `dtype` holds exactly."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=shape) * rng.uniform(0.1, 10, size=(*shape[:-1], 1))
  arrays = x, rng.normal(1, 0.3, size=shape[-1:]), rng.normal(size=shape)
  return tuple(
    jnp.asarray(a, t)
    for a, t in zip(arrays, (dtype, jnp.float32, dtype), strict=True)
  )


class TestContract(contract.Contract):
  """Against the formulas above."""

  name = "rms_norm"
  transcription = staticmethod(transcription)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_without_scale(name):
  x, _, dy = data((4, 128), jnp.float32)
  ones = jnp.ones(128)
  run = IMPLEMENTATIONS[name]
  np.testing.assert_array_equal(run(x, None, EPS), run(x, ones, EPS))
  _, vjp = jax.vjp(lambda x: run(x, None, EPS), x)
  _, with_ones = jax.vjp(lambda x: run(x, ones, EPS), x)
  np.testing.assert_array_equal(vjp(dy)[0], with_ones(dy)[0])


def test_xla_keeps_one_number_a_row():
  """Autodiff of the reference keeps float32 copies of bfloat16 x."""
  x, scale, _ = data((32, 256), jnp.bfloat16)

  def kept_bytes(run):
    _, vjp = jax.vjp(lambda x, scale: run(x, scale, EPS), x, scale)
    return sum(leaf.nbytes for leaf in jax.tree.leaves(vjp))

  assert kept_bytes(xla.rms_norm) == x.nbytes + scale.nbytes + 4 * 32
  assert kept_bytes(ref.rms_norm) > 2 * x.nbytes


def test_garbage_past_the_last_row_reaches_nothing():
  """600 rows in blocks of 512: the interpreter pads the rest with NaN."""
  assert 600 % tiles.tpu_rows(128)
  x, scale, dy = data((600, 128), jnp.float32)
  y, vjp = jax.vjp(
    lambda x, s: IMPLEMENTATIONS["pallas_tpu"](x, s, EPS), x, scale
  )
  for value in (y, *vjp(dy)):
    assert np.isfinite(value).all()


def test_automatic_choice_here_is_xla():
  x, scale, _ = data((4, 128), jnp.float32)
  text = str(jax.make_jaxpr(lambda x, s: rms_norm(x, s, EPS))(x, scale))
  assert "custom_vjp" in text
  assert "pallas" not in text
  np.testing.assert_array_equal(
    rms_norm(x, scale, EPS), rms_norm(x, scale, EPS, impl="xla")
  )


def test_reference_has_forward_mode():
  x, scale, dy = data((4, 128), jnp.float32)
  run = functools.partial(rms_norm, eps=EPS, impl="reference")
  _, tangent = jax.jvp(lambda x: run(x, scale), (x,), (dy,))
  step = 1e-3
  x, scale, dy = (np.float64(a) for a in (x, scale, dy))
  above, below = (
    numpy_rms_norm(x + sign * step * dy, scale, dy)[0] for sign in (1, -1)
  )
  expected = (above - below) / (2 * step)
  # Truncation step^2 |y'''| / 6, with |y'''| below some 10 / rms^3.
  rms = np.sqrt((x**2).mean(-1)).min()
  np.testing.assert_allclose(
    tangent, expected, rtol=0, atol=2 * step**2 / rms**3 + 136 * 2**-24 * 10
  )


def test_an_unmet_wish_says_why():
  x = jnp.ones((4, 128))
  with pytest.raises(
    dispatch.UnsupportedError, match="needs a TPU, this is cpu"
  ):
    rms_norm(x, impl="pallas_tpu")


@pytest.mark.parametrize(
  ("devices", "shape", "dtype", "reason"),
  [
    (8, (4, 128), jnp.float32, "several devices"),
    (1, (4, 100), jnp.float32, "multiple of 128"),
    (1, (0, 128), jnp.float32, "multiple of 128"),
    (1, (4, 128), jnp.float16, "float32 or bfloat16"),
    (1, (4, 2**20), jnp.float32, "do not fit"),
    (1, (4, 128), jnp.bfloat16, None),
  ],
)
def test_what_the_tpu_kernel_refuses(devices, shape, dtype, reason):
  tpu = dispatch.Target("tpu", "TPU v6 lite", devices)
  said = tiles.tpu_supports(tpu, [shape], [jnp.dtype(dtype)])
  assert reason in said if reason else said is None


@pytest.mark.parametrize(
  ("module", "interpret"),
  [(gpu, contract_lib.BACK_ENDS["mosaic_gpu"].strict()), (tpu, True)],
  ids=["mosaic_gpu", "pallas_tpu"],
)
def test_a_residual_is_rounded_before(module, interpret):
  """What is normalised is the sum that is given out, in its bfloat16."""
  x, scale, residual = data((4, 128), jnp.bfloat16)
  y, h = module.rms_norm(x, scale, residual, EPS, interpret=interpret)
  np.testing.assert_array_equal(h, x + residual)
  np.testing.assert_array_equal(y, rms_norm(x + residual, scale, EPS, "xla"))


@pytest.mark.parametrize(
  ("residual", "error", "words"),
  [
    (jnp.ones((4, 128), jnp.bfloat16), TypeError, "the dtype of x; got bfloat"),
    (1.0, TypeError, "an array; got 1.0"),
    (jnp.ones((1, 128)), ValueError, "the shape of x; got \\(1, 128\\)"),
  ],
)
def test_a_residual_that_does_not_fit(residual, error, words):
  with pytest.raises(error, match=words):
    rms_norm(jnp.ones((4, 128)), residual=residual)


@pytest.mark.parametrize(
  ("x", "scale", "error"),
  [
    (jnp.ones((4, 128), jnp.int32), None, TypeError),
    (jnp.ones((4, 128)), jnp.ones(1), ValueError),
    (jnp.ones(()), None, ValueError),
  ],
)
def test_wrong_input(x, scale, error):
  with pytest.raises(error, match="rms_norm needs"):
    rms_norm(x, scale)
