"""Square-root Sinkhorn by kernels, interpreted, against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.experimental.pallas import tpu as pltpu

from kernels_pallas import dispatch, sinkhorn
from kernels_pallas.sinkhorn import gpu, ref, tpu
from normjax.optim import multi_norm
from tests import products
from tests.kernels_pallas import contract

U = 2.0**-24
ORDERS = {
  "output": ("row_l2", "column_l2"),
  "reduction": ("column_l2", "row_l2"),
}


def skewed(shape, seed=0):
  """Log-normal scales of rows; a row and a column of zeros."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=shape) * np.exp(rng.normal(size=(*shape[:2], 1)))
  x[0, 1], x[0, :, 5] = 0, 0
  return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("first", ORDERS)
def test_the_reference_is_the_alternation(first):
  """Bit for bit, rounds fixed or traced."""
  x = skewed((2, 6, 40))
  for rounds in (3, jnp.int32(3)):
    np.testing.assert_array_equal(
      sinkhorn.sinkhorn(x, rounds, first),
      multi_norm.alternate(x, ORDERS[first], rounds),
    )


def assert_balanced(actual, x, first, num_iters):
  expected = ref.sinkhorn(x, num_iters, first)
  # A round has sums of m and of n squares, added up in another order, and some
  # six roundings; the square root halves the error of a sum.
  tolerance = num_iters * (sum(x.shape[1:]) / 2 + 12) * U
  np.testing.assert_allclose(actual, expected, rtol=tolerance)


@pytest.mark.parametrize("first", ORDERS)
def test_mosaic_gpu(first, capfd):
  """Two buffers per launch, and rows that end with overlapping columns."""
  xs = [skewed((1, 34, 200)), skewed((1, 34, 200), seed=1)]
  moved = jax.jit(
    lambda xs: gpu.balance(
      xs,
      1,
      first,
      ctas=4,
      interpret=plgpu.InterpretGPUParams(detect_races=True),
    )
  )(xs)
  assert "RACE DETECTED" not in "".join(capfd.readouterr())
  for y, x in zip(moved, xs, strict=True):
    assert_balanced(y, x, first, 1)


@pytest.mark.parametrize("first", ORDERS)
def test_pallas_tpu(first, capfd):
  x = skewed((2, 20, 200))
  (moved,) = jax.jit(
    lambda x: tpu.balance(
      [x],
      2,
      first,
      interpret=pltpu.InterpretParams(
        detect_races=True, num_cores_or_threads=2
      ),
    )
  )(x)
  assert "RACE DETECTED" not in "".join(capfd.readouterr())
  assert_balanced(moved, x, first, 2)


def numpy_sinkhorn(x, num_iters, first):
  """The alternation, in float64."""
  axes = {"output": (1, 2), "reduction": (2, 1)}[first]
  for axis in axes * num_iters:
    norm = np.sqrt((x**2).sum(axis, keepdims=True))
    size = np.sqrt(x.shape[axis])
    x = x * np.where(norm == 0, 0, size / np.where(norm == 0, 1, norm))
  return (x,)


class TestContract(contract.Contract):
  """Against the formulas above."""

  name = "sinkhorn"

  @staticmethod
  def transcription(x, cotangent, *, num_iters, first):
    del cotangent
    return numpy_sinkhorn(x, num_iters, first)


@pytest.mark.parametrize(
  ("impl", "platform", "kind", "call"),
  [
    ("mosaic_gpu", "gpu", "NVIDIA H200", "mosaic_gpu"),
    ("pallas_tpu", "tpu", "TPU v6 lite", "tpu_custom_call"),
  ],
)
def test_export_takes_the_kernel_when_asked(impl, platform, kind, call):
  """Also under the `vmap` of a population, whose members are a batch."""
  x = skewed((2, 1, 32, 256))

  def run(x):
    return sinkhorn.sinkhorn(x, 1, impl=impl)

  with products.compiled_for(platform, kind):
    name = "cuda" if platform == "gpu" else platform
    exported = jax.export.export(jax.jit(jax.vmap(run)), platforms=[name])
    assert call in exported(x).mlir_module()
    # Nothing has proved it on silicon.
    assert sinkhorn.OP.choose(None, x[0]).name == "reference"


def test_refusals_have_reasons():
  x = skewed((1, 8, 100))
  with products.compiled_for("gpu", "NVIDIA H200"):
    with pytest.raises(dispatch.UnsupportedError, match="rows of 128 to 8192"):
      sinkhorn.sinkhorn(x, impl="mosaic_gpu")
    with pytest.raises(dispatch.UnsupportedError, match="fixed number of r"):
      sinkhorn.sinkhorn(x, jnp.int32(2), impl="mosaic_gpu")
    huge = jax.ShapeDtypeStruct((2, 2**19, 2**11), jnp.float32)
    with pytest.raises(dispatch.UnsupportedError, match="fewer than 2.31 val"):
      sinkhorn.OP.choose("mosaic_gpu", huge)
  x = skewed((1, 8, 128))
  with products.compiled_for("gpu", "NVIDIA A100-SXM4-80GB"):
    with pytest.raises(dispatch.UnsupportedError, match="for GPUs of Hopper"):
      sinkhorn.OP.choose("mosaic_gpu", x)
    asked = ("mosaic_gpu", "reference")
    assert sinkhorn.OP.choose(asked, x).name == "reference"
  with pytest.raises(ValueError, match=r"\(batch, inputs, outputs\)"):
    sinkhorn.sinkhorn(x[0])
  for rounds, error in ((0, ValueError), (2.5, TypeError), ("2", TypeError)):
    with pytest.raises(error, match=f"num_iters.*{rounds}"):
      sinkhorn.sinkhorn(x, rounds)
  with pytest.raises(TypeError, match="one integer as num_iters; got float32"):
    sinkhorn.sinkhorn(x, jnp.float32(2))
  with pytest.raises(ValueError, match="no first='rows'; known: output, red"):
    sinkhorn.sinkhorn(x, first="rows")
