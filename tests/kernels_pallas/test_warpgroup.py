"""A warpgroup's walk over rows, and the tiles that it follows."""

import functools
import importlib
import itertools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import contract, dispatch, tiles

H200 = contract.BACK_ENDS["mosaic_gpu"].target
V6E = contract.BACK_ENDS["pallas_tpu"].target
OPS = [("rms_norm", 1), ("layer_norm", 2)]
WIDTHS = [128, 384, 512, 768, 1024, 2048, 4096, 5504, 8192]


@pytest.mark.parametrize("wide", [False, True], ids=["registers", "shared"])
@pytest.mark.parametrize(("op", "vectors"), OPS)
def test_a_few_ctas_take_all_rows(op, vectors, wide, monkeypatch, capfd):
  """14 rows, as 7 blocks, over 2 CTAs: the walks are of unequal length."""
  monkeypatch.setattr(tiles, "_MULTIPROCESSORS", 1)
  if wide:
    monkeypatch.setattr(tiles, "_MOST_REGISTERS", 0)
  rng = np.random.default_rng(0)
  x, residual, dy, dh = (
    jnp.asarray(a, jnp.float32) for a in rng.normal(size=(4, 14, 128))
  )
  given = [x, *jnp.asarray(rng.normal(1, 0.3, size=(vectors, 128))), residual]
  package = importlib.import_module(f"kernels_pallas.{op}.api")
  gpu = importlib.import_module(f"kernels_pallas.{op}.gpu")
  interpret = contract.BACK_ENDS["mosaic_gpu"].strict()
  run = functools.partial(getattr(gpu, op), interpret=interpret)
  (reference,) = (
    candidate.function
    for candidate in package.OP.candidates
    if candidate.name == "reference"
  )

  def both(function):
    results, vjp = jax.vjp(function, *given)
    return *results, *vjp((dy, dh))

  for actual, expected in zip(
    jax.jit(lambda: both(run))(), both(reference), strict=True
  ):
    # A gradient of a vector sums over 14 rows, all else over a row.
    bound = (128 + 14 + 8) * 2**-24 * max(1, jnp.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)
  assert "RACE DETECTED" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
  ("module", "platform", "call"),
  [("gpu", "cuda", "mosaic_gpu_v2"), ("tpu", "tpu", "tpu_custom_call")],
)
@pytest.mark.parametrize(("op", "vectors"), OPS)
def test_lowers(op, vectors, module, platform, call):
  """Mosaic accepts both kernels, and their blocks of 600 rows."""
  function = getattr(
    importlib.import_module(f"kernels_pallas.{op}.{module}"), op
  )

  def loss(x, *vectors):
    return jnp.sum(jnp.float32(function(x, *vectors)))

  x = jax.ShapeDtypeStruct((600, 256), jnp.bfloat16)
  given = x, *[jax.ShapeDtypeStruct((256,), jnp.float32)] * vectors
  gradient = jax.value_and_grad(loss, argnums=range(len(given)))
  exported = jax.export.export(jax.jit(gradient), platforms=[platform])(*given)
  assert exported.mlir_module().count(f"@{call}") == 2


@pytest.mark.parametrize(("op", "vectors"), OPS)
def test_rows_past_the_end_reach_no_sum(op, vectors):
  """Whatever they hold, and where no eps makes a row of zeros finite."""
  module = importlib.import_module(f"kernels_pallas.{op}.tpu")
  run = functools.partial(getattr(module, op), eps=0.0, interpret=True)
  given = jnp.ones((3, 128)).at[:, ::2].set(2), *[jnp.ones(128)] * vectors
  _, *sums = jax.grad(lambda *a: jnp.sum(run(*a)), range(1 + vectors))(*given)
  for total in sums:
    assert jnp.all(jnp.isfinite(total))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_tiles_fit_the_rows(dtype):
  for width, rows, backward in itertools.product(
    WIDTHS, (1, 7, 600, 8192), (False, True)
  ):
    tile = tiles.gpu(
      rows,
      width,
      dtype,
      arrays=1 + backward,
      vectors=1 + backward,
      per_multiprocessor=2 if backward else 8,
      ahead=backward,
    )
    assert rows % tile.rows == 0
    assert 1 <= tile.ctas <= rows // tile.rows
    assert width % (128 * tile.vector) == 0
    assert tile.vector * jnp.dtype(dtype).itemsize <= 16
    if rows == 8192:
      loaded = tile.ctas * tile.rows * width * jnp.dtype(dtype).itemsize
      # What is on its way to each of 132 multiprocessors.
      assert loaded * (1 + backward) >= 22_000 * 132 or width < 512


@pytest.mark.parametrize(("op", "vectors"), OPS)
def test_a_device_proves_a_kernel_that_goes_on(op, vectors):
  """In each form of a tile a CTA has more than one block, some one more."""
  _, its = contract.of(op)
  forms = set()
  for spec in its.largest:
    rows, width = spec.shapes[0].shape
    residual = spec.shapes[-1] is not None
    for backward in (False, True):
      tile = tiles.gpu(
        rows,
        width,
        spec.shapes[0].dtype,
        arrays=1 + backward + residual,
        vectors=vectors + backward,
        per_multiprocessor=2 if backward else 8,
        ahead=backward,
      )
      blocks = rows // tile.rows
      assert blocks > tile.ctas
      assert blocks % tile.ctas
      forms.add((tile.ahead, tile.wide, residual))
  assert {(True, False, False), (False, True, False)} <= forms
  assert (False, True, True) in forms


@pytest.mark.parametrize(
  ("supports", "target", "width", "reason"),
  [
    (tiles.gpu_supports, H200, 8320, "8320 values do not fit the registers"),
    (tiles.gpu_supports, H200, 200, "a multiple of 128 values"),
    (tiles.gpu_supports, V6E, 128, "needs a GPU, this is tpu"),
    (
      tiles.gpu_supports,
      dispatch.Target("gpu", "NVIDIA A100-SXM4-80GB", 1),
      128,
      "is for GPUs of Hopper, this is NVIDIA A100-SXM4-80GB",
    ),
    (
      tiles.gpu_supports,
      dispatch.Target("gpu", "NVIDIA H100 80GB HBM3", 8),
      128,
      "inside jax.shard_map",
    ),
    (tiles.gpu_supports, dispatch.Target("gpu", "NVIDIA GH200", 1), 128, None),
    (tiles.tpu_supports, V6E, 2**20, "do not fit the kernel's memory"),
    (tiles.tpu_supports, V6E, 8192, None),
  ],
)
def test_refusals(supports, target, width, reason):
  said = supports(target, [(4, width)], [jnp.dtype(jnp.float32)])
  assert (said is None) if reason is None else (reason in said)


def test_offsets_have_32_bits():
  shape, dtype = (2**18, 8192), jnp.dtype(jnp.bfloat16)
  assert "fewer than 2^31 values" in tiles.gpu_supports(H200, [shape], [dtype])
