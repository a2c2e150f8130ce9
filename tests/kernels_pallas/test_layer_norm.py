"""Every implementation of layer_norm against float64 NumPy.

A row's sums of d terms have a relative error below d u, u = 2^-24; the sum
over rows of the parameters' gradients one below (rows) u of the summed
magnitudes; output in bfloat16 adds half a unit of bfloat16.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import blocks as blocks_lib
from kernels_pallas import contract as contract_lib
from kernels_pallas import dispatch
from kernels_pallas.layer_norm import blocks, gpu, layer_norm, ref, tpu, xla
from tests.kernels_pallas import contract

EPS = 1e-5
IMPLEMENTATIONS = {
  "reference": ref.layer_norm,
  "xla": xla.layer_norm,
  "xla_blocks": blocks.layer_norm,
  "pallas_tpu": lambda x, scale, bias, eps: tpu.layer_norm(
    x, scale, bias, None, eps, interpret=True
  ),
}


def numpy_layer_norm(x, scale, bias, dy, eps=EPS):
  """y, dx, dscale and dbias in float64, written out."""
  d = x.shape[-1]
  std = np.sqrt(x.var(-1, keepdims=True) + eps)
  normalized, g = (x - x.mean(-1, keepdims=True)) / std, dy * scale
  inner = (g * normalized).sum(-1, keepdims=True) / d
  dx = (g - g.sum(-1, keepdims=True) / d - normalized * inner) / std
  flat = dy.reshape(-1, d)
  dscale = (flat * normalized.reshape(-1, d)).sum(0)
  return normalized * scale + bias, dx, dscale, flat.sum(0)


def data(shape, dtype):
  """A row of other magnitude each; values that `dtype` holds exactly."""
  rng = np.random.default_rng(0)
  x = rng.normal(1, 1, size=shape)
  x *= rng.uniform(0.1, 10, size=(*shape[:-1], 1))
  scale, bias = rng.normal(1, 0.3, size=(2, shape[-1]))
  dy = rng.normal(size=shape)
  single = jnp.float32
  return tuple(
    jnp.asarray(a, t)
    for a, t in zip(
      (x, scale, bias, dy), (dtype, single, single, dtype), strict=True
    )
  )


@functools.partial(jax.jit, static_argnums=0)
def both(name, x, scale, bias, dy):
  y, vjp = jax.vjp(
    lambda *arguments: IMPLEMENTATIONS[name](*arguments, EPS), x, scale, bias
  )
  return y, *vjp(dy)


def transcription(x, scale, bias, residual, dy, dh=0, eps=EPS):
  """Of the op: y, with a residual h as well, and the gradients."""
  h = x if residual is None else x + residual
  y, dx, *others = numpy_layer_norm(h, scale, bias, dy, eps)
  if residual is None:
    return y, dx, *others
  return y, h, dx + dh, *others, dx + dh


class TestContract(contract.Contract):
  """Against the formulas above."""

  name = "layer_norm"
  transcription = staticmethod(transcription)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_a_large_mean_costs_its_own_rounding_only(name):
  """At 1e4 x is rounded to 2^-11; two passes add nothing of that size."""
  x, scale, bias, dy = data((2, 256, 128), jnp.float32)
  x = 1e4 + x
  expected = numpy_layer_norm(*(np.float64(a) for a in (x, scale, bias, dy)))
  y, dx, _, _ = both(name, x, scale, bias, dy)
  # The mean is off by 1e4 u, whatever sums it; 1 / std is below 20 here.
  bound = 20 * 1e4 * 2**-24 * 16
  np.testing.assert_allclose(y, expected[0], rtol=0, atol=bound)
  np.testing.assert_allclose(
    dx, expected[1], rtol=0, atol=bound * np.abs(expected[1]).max()
  )


@pytest.mark.optimized
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_rows_of_a_constant_are_the_bias(name, dtype):
  """Of 120 values, whose sum and mean round; and of large ones."""
  constants = jnp.asarray([3.3, 1e4, -1234.567, 1e15] * 128, dtype)
  x = jnp.broadcast_to(constants[:, None], (512, 120))
  bias = jnp.linspace(-1, 1, 120)
  compiled = jax.jit(lambda x: IMPLEMENTATIONS[name](x, bias, bias, 1e-6))
  expected = jnp.broadcast_to(bias.astype(dtype), x.shape)
  np.testing.assert_array_equal(compiled(x), expected)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rows_of_a_constant_on_a_gpu(dtype):
  """As above; of rows that its kernel takes."""
  constants = jnp.asarray([3.3, 1e4, -1234.567, 1e15], dtype)
  x = jnp.broadcast_to(constants[:, None], (4, 384))
  bias = jnp.linspace(-1, 1, 384)
  interpret = contract_lib.BACK_ENDS["mosaic_gpu"].interpreter()
  y = gpu.layer_norm(x, bias, bias, interpret=interpret)
  expected = jnp.broadcast_to(bias.astype(dtype), x.shape)
  np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
  ("module", "interpret"),
  [(gpu, contract_lib.BACK_ENDS["mosaic_gpu"].strict()), (tpu, True)],
  ids=["mosaic_gpu", "pallas_tpu"],
)
def test_a_residual_is_rounded_before(module, interpret):
  """What is normalised is the sum that is given out, in its bfloat16."""
  x, scale, bias, residual = data((4, 128), jnp.bfloat16)
  y, h = module.layer_norm(x, scale, bias, residual, EPS, interpret=interpret)
  np.testing.assert_array_equal(h, x + residual)
  expected = layer_norm(x + residual, scale, bias, EPS, "xla")
  np.testing.assert_allclose(
    np.float32(y), np.float32(expected), rtol=2**-7, atol=0
  )


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_without_scale_and_bias(name):
  x, _, _, dy = data((4, 128), jnp.float32)
  run = IMPLEMENTATIONS[name]
  y, vjp = jax.vjp(lambda x: run(x, None, None, EPS), x)
  full, with_ones = jax.vjp(
    lambda x: run(x, jnp.ones(128), jnp.zeros(128), EPS), x
  )
  np.testing.assert_array_equal(y, full)
  np.testing.assert_array_equal(vjp(dy)[0], with_ones(dy)[0])


@pytest.mark.parametrize("name", ["xla", "xla_blocks"])
def test_two_numbers_a_row_are_kept(name):
  """Autodiff of the reference keeps float32 copies of bfloat16 x."""
  x, scale, bias, _ = data((32, 256), jnp.bfloat16)

  def kept_bytes(run):
    _, vjp = jax.vjp(lambda *a: run(*a, EPS), x, scale, bias)
    return sum(leaf.nbytes for leaf in jax.tree.leaves(vjp))

  parameters = scale.nbytes + bias.nbytes
  kept = kept_bytes(IMPLEMENTATIONS[name])
  assert kept == x.nbytes + parameters + 2 * 4 * 32
  assert kept_bytes(ref.layer_norm) > 2 * x.nbytes


def test_blocks_write_nothing_of_the_size_of_x():
  """Beside y and dx; what XLA makes of the other is twice x at least."""
  x, scale, bias, dy = data((2048, 256), jnp.float32)

  def temporary(name):
    compiled = both.lower(name, x, scale, bias, dy).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary("xla_blocks") < x.nbytes / 2
  assert temporary("xla") >= x.nbytes


def test_blocks_are_for_one_cpu_and_large_x(monkeypatch):
  supports = functools.partial(blocks_lib.supports, dtypes=[jnp.float32])
  cpu, tpu = (dispatch.Target(name, name, 1) for name in ("cpu", "tpu"))
  large = [(8192, 1024)]
  assert "several devices" in supports(dispatch.Target("cpu", "cpu", 8), large)
  assert supports(cpu, large) is None
  assert supports(cpu, [(16, 512, 1024)]) is None
  assert "for CPUs, this is tpu" in supports(tpu, large)
  assert "values or more" in supports(cpu, [(4, 8, 64)])
  assert "multiple of 16 rows" in supports(cpu, [(8191, 1024)])
  x = jax.ShapeDtypeStruct((8192, 1024), jnp.float32)
  monkeypatch.setattr(jax, "device_count", lambda: 1)
  with dispatch.recording() as chosen:
    jax.eval_shape(layer_norm, x)
  assert chosen == {"layer_norm": ["xla_blocks"]}


def test_automatic_choice_here_is_xla():
  x, scale, bias, _ = data((4, 128), jnp.float32)
  with dispatch.recording() as chosen:
    y = layer_norm(x, scale, bias, EPS)
  assert chosen == {"layer_norm": ["xla"]}
  np.testing.assert_array_equal(y, layer_norm(x, scale, bias, EPS, "xla"))


def test_reference_has_forward_mode():
  x, scale, bias, dy = data((4, 128), jnp.float32)
  run = functools.partial(layer_norm, eps=EPS, impl="reference")
  _, tangent = jax.jvp(lambda x: run(x, scale, bias), (x,), (dy,))
  step = 1e-3
  x, scale, bias, dy = (np.float64(a) for a in (x, scale, bias, dy))
  above, below = (
    numpy_layer_norm(x + sign * step * dy, scale, bias, dy)[0]
    for sign in (1, -1)
  )
  expected = (above - below) / (2 * step)
  # Truncation step^2 |y'''| / 6, with |y'''| below some 10 / std^3.
  std = x.std(-1).min()
  np.testing.assert_allclose(
    tangent, expected, rtol=0, atol=2 * step**2 / std**3 + 136 * 2**-24 * 10
  )


@pytest.mark.parametrize(
  ("x", "scale", "bias", "error"),
  [
    (jnp.ones((4, 128), jnp.int32), None, None, TypeError),
    (jnp.ones((4, 128)), jnp.ones(1), None, ValueError),
    (jnp.ones((4, 128)), None, jnp.ones(129), ValueError),
    (jnp.ones(()), None, None, ValueError),
  ],
)
def test_wrong_input(x, scale, bias, error):
  with pytest.raises(error, match="layer_norm needs"):
    layer_norm(x, scale, bias)
