"""One step of 8-bit Adam by kernels, interpreted, against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.experimental.pallas import tpu as pltpu

from kernels_pallas import adam_8bit_update as op
from kernels_pallas import codes, dispatch
from kernels_pallas import contract as kernels
from kernels_pallas.codes import Quantized
from kernels_pallas.step_8bit import gpu, rule, tpu
from tests import products
from tests.kernels_pallas import contract, eight_bit

SCALARS = op.Scalars(1e-3, 0.9, 0.999, 1e-8, 0.1, 10.0, 31.6)
U = 2.0**-24


def draw(shape, exact=False, dtype=jnp.float32, seed=0):
  """A leaf and its gradient, with an entry of no good and a block of zeros."""
  rng = np.random.default_rng(seed)
  w, g, m, v = (
    jnp.asarray(rng.normal(size=shape) * scale, jnp.float32)
    for scale in (1, 1e-2, 1e-3, 3e-3)
  )
  v = v**2
  if not exact:
    g, m, v = (x.at[0, :256].set(0) for x in (g, m, v))
    g = g.at[-1, :3].set(jnp.array([jnp.nan, jnp.inf, 1e30]))
  mu, nu = (
    Quantized(x, None)
    if exact
    else codes.quantize(x, 256, signed, "rows", signed, "table")
    for x, signed in ((m, True), (v, False))
  )
  return op.Leaf(w.astype(dtype), (mu, nu)), g.astype(dtype)


def assert_step(actual, leaf, g, *, decayed):
  """Parameters to rounding, and codes that are equal; the step's squares."""
  options = {"decayed": decayed, "blocks": op.Blocks(), "form": "table"}
  expected, squares = jax.jit(
    lambda leaf, g: rule.update_leaf(op.RULE, leaf, g, SCALARS, **options)
  )(leaf, g)
  w = np.float64(leaf.parameter)
  if leaf.parameter.dtype == jnp.float32:
    # Ten roundings of the step, which is the learning rate at most.
    bound = 2 * U * np.abs(w) + 20 * U * np.abs(w).max()
    apart = np.abs(np.float64(actual.parameter) - expected.parameter)
    assert (apart <= bound).all()
  else:
    np.testing.assert_array_equal(actual.parameter, expected.parameter)
  for new, held in zip(actual.moments, expected.moments, strict=True):
    if held.absmax is None:
      # The kernel's 1 - b1 is one of float32.
      largest = np.abs(held.codes).max()
      np.testing.assert_allclose(
        new.codes, held.codes, rtol=0, atol=8 * U * largest
      )
    else:
      np.testing.assert_array_equal(new.codes, held.codes)
      np.testing.assert_allclose(new.absmax, held.absmax, rtol=16 * U)
  return squares


def test_mosaic_gpu(capfd):
  """Leaves of several shapes and short blocks in few launches, no race."""
  leaves, gradients = zip(
    draw((8, 256)),
    draw((4, 600), seed=1),
    draw((384,), exact=True, seed=2),
    draw((8, 256), dtype=jnp.bfloat16, seed=3),
    strict=True,
  )
  decayed = [True, False, True, False]
  moved, squares = jax.jit(
    lambda leaves, gradients: gpu.update(
      op.RULE,
      leaves,
      gradients,
      SCALARS,
      decayed=decayed,
      blocks=op.Blocks(),
      ctas=3,
      interpret=plgpu.InterpretGPUParams(detect_races=True),
    )
  )(leaves, gradients)
  assert "RACE DETECTED" not in "".join(capfd.readouterr())
  expected = sum(
    assert_step(*row[:3], decayed=row[3])
    for row in zip(moved, leaves, gradients, decayed, strict=True)
  )
  np.testing.assert_allclose(squares, expected, rtol=1e-5)


def test_pallas_tpu(capfd):
  leaf, g = draw((36, 600))
  (moved,), squares = jax.jit(
    lambda leaf, g: tpu.update(
      op.RULE,
      [leaf],
      [g],
      SCALARS,
      decayed=[True],
      blocks=op.Blocks(),
      interpret=pltpu.InterpretParams(
        detect_races=True, num_cores_or_threads=2
      ),
    )
  )(leaf, g)
  assert "RACE DETECTED" not in "".join(capfd.readouterr())
  expected = assert_step(moved, leaf, g, decayed=True)
  np.testing.assert_allclose(squares, expected, rtol=1e-5)


def numpy_step(w, g, mu, mu_absmax, nu, nu_absmax, numbers, *others, decayed):
  """Formulas in float64; codes are the nearest values of the map."""
  del others  # Cotangents.
  rate, b1, b2, eps, decay, first, second, scale = numbers
  good = np.isfinite(g)
  g = np.where(good, g * scale, 0)
  m = b1 * eight_bit.load(mu, mu_absmax, True) + (1 - b1) * g
  v = b2 * eight_bit.load(nu, nu_absmax, False) + (1 - b2) * g**2
  m, v = (np.where(good, x, 0) for x in (m, v))
  moved = w - rate * first * m / (np.sqrt(v) * second + eps)
  moved -= rate * decay * decayed * moved
  moved = np.where(good, moved, w)
  return (
    moved,
    *eight_bit.store(m, mu_absmax, True),
    *eight_bit.store(v, nu_absmax, False),
    np.sum((moved - w) ** 2),
  )


class TestContract(contract.Contract):
  """Against the formulas above."""

  name = "adam_8bit_update"
  transcription = staticmethod(numpy_step)


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_code_that_is_no_tie(wrong):
  """The next code is allowed near a midpoint, and nowhere else."""
  case = kernels.interpreted("adam_8bit_update")[-1]
  w, mu, *rest = (np.array(x) for x in case.sample.truth)
  tied = case.sample.ties[1]
  assert tied.mean() < 1e-2
  tied[0, :] = [n % 2 == 0 for n in range(tied.shape[1])]
  mu[0, 2 + wrong] += 1
  moved = (
    np.float32(w),
    mu,
    *(x if x.dtype == np.uint8 else np.float32(x) for x in rest),
  )
  if not wrong:
    case.sample.check(moved)
    return
  with pytest.raises(AssertionError, match="1 of 500 whole numbers"):
    case.sample.check(moved)


def arguments(leaf, g, scalars=SCALARS):
  mu, nu = leaf.moments
  return leaf.parameter, g, *mu, *nu, jnp.array(scalars)


@pytest.mark.parametrize(
  ("impl", "platform", "kind", "call"),
  [
    ("mosaic_gpu", "gpu", "NVIDIA H200", "mosaic_gpu"),
    ("pallas_tpu", "tpu", "TPU v6 lite", "tpu_custom_call"),
  ],
)
def test_export_takes_the_kernel_when_asked(impl, platform, kind, call):
  """Under a population's `vmap` the plain operations take its place."""
  given = arguments(*draw((32, 512)))

  def run(*given):
    return op.adam_8bit_update(*given, impl=impl)

  def text(function, *given):
    name = "cuda" if platform == "gpu" else platform
    with products.compiled_for(platform, kind):
      exported = jax.export.export(jax.jit(function), platforms=[name])
      return exported(*given).mlir_module()

  call = f"custom_call @{call}"
  assert call in text(run, *given)
  twice = jax.tree.map(lambda x: jnp.stack([x, x]), given)
  assert call not in text(jax.vmap(run), *twice)
  with products.compiled_for(platform, kind):
    # Nothing has proved it on silicon.
    assert op.OP.choose(None, *given[:6]).name == "xla"


@pytest.mark.parametrize(
  ("shape", "options", "reason"),
  [
    ((6, 256), {}, "a multiple of 4 rows"),
    ((8, 250), {}, "rows of 256 or more, in eights"),
    ((8, 512), {"block_size": 64}, "blocks of 256, not 64"),
  ],
)
def test_refusals_have_reasons(shape, options, reason):
  w = jax.ShapeDtypeStruct(shape, jnp.float32)
  q = jax.ShapeDtypeStruct(shape, jnp.uint8)
  blocks = op.Blocks(size=options.get("block_size", 256))
  s = jax.ShapeDtypeStruct(rule.scale_shape(shape, blocks), jnp.float32)
  with (
    products.compiled_for("gpu", "NVIDIA H200"),
    pytest.raises(dispatch.UnsupportedError, match=reason),
  ):
    jax.eval_shape(
      lambda *given: op.adam_8bit_update(
        *given, SCALARS, impl="mosaic_gpu", **options
      ),
      *(w, w, q, s, q, s),
    )


@pytest.mark.parametrize(
  ("kind", "shape", "reason"),
  [
    ("NVIDIA A100-SXM4-80GB", (8, 512), "for GPUs of Hopper, this is NVIDIA A"),
    ("NVIDIA H200", (2**22, 512), "fewer than 2.31 values"),
  ],
)
@pytest.mark.parametrize("exact", [False, True], ids=["codes", "float32"])
def test_the_gpu_kernel_is_for_hopper_and_offsets_of_32_bits(
  kind, shape, reason, exact
):
  w = jax.ShapeDtypeStruct(shape, jnp.float32)
  scales = rule.scale_shape(shape, op.Blocks())
  codes_ = jax.ShapeDtypeStruct(shape, jnp.float32 if exact else jnp.uint8)
  s = None if exact else jax.ShapeDtypeStruct(scales, jnp.float32)
  given = (w, w, codes_, s, codes_, s)
  with products.compiled_for("gpu", kind):
    with pytest.raises(dispatch.UnsupportedError, match=reason):
      op.OP.choose("mosaic_gpu", *given)
    assert op.OP.choose(("mosaic_gpu", "xla"), *given).name == "xla"


def test_shapes_that_do_not_fit():
  w, g, mu, absmax, nu, _, scalars = arguments(*draw((8, 300)))
  with pytest.raises(ValueError, match=r"nu_absmax of shape \(8, 2\)"):
    op.adam_8bit_update(w, g, mu, absmax, nu, absmax[:, :1], scalars)
  with pytest.raises(ValueError, match="both mu_absmax and nu_absmax"):
    op.adam_8bit_update(w, g, mu, absmax, nu, None, scalars)
  with pytest.raises(ValueError, match=r"scalars learning_rate, b1.*got 4"):
    op.adam_8bit_update(w, g, mu, absmax, nu, absmax, scalars[:4])
