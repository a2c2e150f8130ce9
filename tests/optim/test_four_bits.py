"""4 bits by bisection and selects give the bits of plain compares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import codes
from normjax import optim
from normjax.optim import codebooks, four_bits

MAPS = [
  (code, signed)
  for code, pair in codebooks.MAPS.items()
  for signed, table in zip((True, False), pair, strict=True)
  if table is not None
]


def edges(table):
  """Each threshold of a map, and its neighbours, from -1 to 1."""
  middle = np.float32((table[1:] + table[:-1]) / 2)
  near = [np.nextafter(middle, np.float32(to)) for to in (-2, 2)]
  extremes = np.float32([-1, 1, 0, -0.0])
  return np.concatenate([middle, *near, table, extremes])


def plain(x, table, block_size):
  """Codes one per entry, and scales, by a compare per value of the map."""
  x = np.where(np.isfinite(x), x, np.float32(0))
  if table[0] >= 0:
    x = np.maximum(x, 0)
  blocks = x.reshape(-1, block_size)
  absmax = np.abs(blocks).max(axis=1)
  y = blocks / np.where(absmax == 0, np.float32(1), absmax)[:, None]
  low, half = table[:-1], (table[1:] - table[:-1]) * np.float32(0.5)
  # As torchao decides between two values: ties go up.
  above = y[..., None] >= table[1:]
  tie = (y[..., None] >= low) & (y[..., None] - low >= half)
  return (above | tie).sum(axis=-1).reshape(x.shape), absmax


@pytest.mark.parametrize("form", codes.FORMS)
@pytest.mark.parametrize(("code", "signed"), MAPS)
def test_codes_are_those_of_plain_compares(code, signed, form):
  """Of numbers of all sizes, of thresholds, of what is not finite."""
  table = codebooks.values(code, signed)
  rng = np.random.default_rng(0)
  x = rng.integers(0x00800000, 0x7F900000, 4096).astype(np.uint32)
  x = (x | (rng.integers(0, 2, x.shape).astype(np.uint32) << 31)).view("f4")
  near = np.resize(edges(table), 124 * 8).reshape(8, 124)
  ones = np.ones((8, 4), np.float32)  # So that y is the entry.
  normal = np.float32(rng.normal(size=4096))
  x = np.concatenate([x, np.concatenate([ones, near], 1).ravel(), normal])
  x = x.reshape(8, -1)
  index, absmax = plain(x, table, 128)
  run = jax.jit(
    lambda x: codebooks.quantize(
      x, 128, signed, "rows", code, codebooks.NEAREST, form
    )
  )
  stored = run(x)
  np.testing.assert_array_equal(stored.absmax.ravel(), absmax)
  np.testing.assert_array_equal(
    stored.codes, (index[:, ::2] << 4) | index[:, 1::2]
  )
  read = jax.jit(
    lambda q: codebooks.dequantize(q, 128, signed, "rows", code, form)
  )
  scale = np.repeat(absmax.reshape(8, -1), 128, axis=1)
  np.testing.assert_array_equal(read(stored), table[index] * scale)


@pytest.mark.parametrize("count", [1, 13, 14, 15])
def test_ranks(count):
  """How many thresholds are reached, of fewer than 15 too."""
  thresholds = np.sort(np.random.default_rng(count).normal(size=count))
  thresholds = np.float32(thresholds)
  y = np.concatenate([thresholds, np.linspace(-3, 3, 41, dtype=np.float32)])
  expected = (y[:, None] >= thresholds).sum(axis=1)
  np.testing.assert_array_equal(four_bits.rank(y, thresholds), expected)


def test_init_is_not_computed_while_it_compiles():
  """Codes of constant zeros took XLA 16 s per matrix of 512 by 2048."""
  tx = optim.adamw_4bit(1e-3)
  text = jax.jit(tx.init).lower(jnp.ones((32, 256))).as_text()
  assert "optimization_barrier" in text
