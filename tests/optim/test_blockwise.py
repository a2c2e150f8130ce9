"""The 8-bit quantiser against the definition, and its facts."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import optim
from tests.optim import references_8bit


def quantize(x, *args, **kwargs):
  """Compiled, as in use."""
  return jax.jit(lambda x: optim.quantize_blockwise(x, *args, **kwargs))(x)


def round_trip(x, block_size, signed=True, **options):
  """What is left of x."""
  stored = optim.quantize_blockwise(x, block_size, signed, **options)
  options.pop("sign_repair", None)
  return optim.dequantize_blockwise(stored, block_size, signed, **options)


def test_signed_map():
  values = optim.dynamic_map(True)
  assert values.dtype == np.float32
  assert len(np.unique(values)) == 256
  assert (np.diff(values) > 0).all()
  assert values[127] == 0
  np.testing.assert_allclose(values[:2], [-0.99296874, -0.9789], rtol=1e-4)
  np.testing.assert_allclose(values[-2:], [0.99296874, 1.0], rtol=1e-7)
  np.testing.assert_allclose(values[128:131], [5.5e-7, 3.25e-6, 7.75e-6], 1e-5)
  counts, _ = np.histogram(values, 10.0 ** np.arange(-7, 1))
  np.testing.assert_array_equal(counts, [1, 2, 4, 8, 16, 32, 65])


def test_unsigned_map():
  values = optim.dynamic_map(False)
  assert len(np.unique(values)) == 256
  assert values[0] == 0
  np.testing.assert_allclose(values[1:3], [3.25e-7, 7.75e-7], 1e-5)
  np.testing.assert_allclose(values[-2:], [0.9964844, 1.0], rtol=1e-7)


@pytest.mark.parametrize(
  ("signed", "digest"),
  [
    (True, "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c"),
    (False, "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398"),
  ],
)
def test_map_is_bitsandbytes_to_the_last_bit(signed, digest):
  """The digest is that of `create_dynamic_map`, version 0.50.2."""
  values = optim.dynamic_map(signed)
  assert hashlib.sha256(values.astype("<f4").tobytes()).hexdigest() == digest
  # Rounded once instead of at each step: 2 units in the last place.
  np.testing.assert_allclose(
    values, references_8bit.dynamic_map(signed), rtol=2 * 2**-23
  )


@pytest.mark.parametrize(
  ("sign_repair", "tiny"), [(False, 0.0), (True, -5.5e-7)]
)
def test_values_of_the_kernels(sign_repair, tiny):
  x = jnp.array([1.0, -1, 0.5, 1e-9, -1e-9, 0, 2e-7, -2e-7])
  actual = round_trip(x, 256, sign_repair=sign_repair)
  expected = [1.0, -0.99297, 0.50078, 0, tiny, 0, 0, tiny]
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-12)


def neighbours(values, reach):
  """The floats within `reach` units in the last place of each value."""
  bits = np.asarray(values, np.float32).view(np.int32)[:, None]
  return (bits + np.arange(-reach, reach + 1)).view(np.float32).ravel()


def with_unit_blocks(y, block_size=256):
  """Rows that hold y and a 1, so that the scale is 1."""
  rows = np.zeros((-(-y.size // (block_size - 1)), block_size), np.float32)
  rows[:, 0] = 1
  rows[:, 1:].flat[: y.size] = y
  return rows


@pytest.mark.parametrize("signed", [True, False])
def test_nearest_around_every_midpoint_and_cell(signed):
  """Ties go down; every float within 200 ulp of a midpoint is checked."""
  code = optim.dynamic_map(signed)
  midpoints = references_8bit.midpoints(code)
  # The lookup's own boundaries: 128 a power of two.
  cells = np.arange(2.0**7, 2.0**8)[:, None] * 2.0 ** -np.arange(8.0, 32.0)
  y = np.concatenate(
    [
      neighbours(midpoints[midpoints != 0], 200),
      neighbours(cells.ravel(), 3),
      code,
      np.float32([0.0, 1e-30, 1e-44, 2**-126]),
      np.random.default_rng(0).uniform(0, 1, 10**6).astype(np.float32),
    ]
  )
  if signed:
    y = np.concatenate([y, -y])
  y = y[(np.abs(y) <= 1) & (y >= (-1 if signed else 0))]
  rows = with_unit_blocks(y)
  expected = np.searchsorted(midpoints, rows, side="left")
  np.testing.assert_array_equal(quantize(rows, 256, signed).codes, expected)
  # And it is the nearest value, but for the rounding of the midpoint: 2^-24 of
  # it, once for each of the two distances.
  distance = np.abs(code[expected].astype(np.float64) - rows)
  for other in (-1, 1):
    near = code[np.clip(expected + other, 0, 255)].astype(np.float64)
    assert (distance <= np.abs(near - rows) + 2.0**-23 * np.abs(rows)).all()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
  "size",
  # The others are one less, one and one more than a block, and many blocks.
  [1, pytest.param(7, marks=pytest.mark.slow), 255, 256, 257, 1000],
)
@pytest.mark.parametrize(
  "block_size",
  [1, 5, pytest.param(16, marks=pytest.mark.slow), 256],
)
def test_flat_equals_transcription(signed, size, block_size):
  rng = np.random.default_rng(size)
  x = (rng.normal(size=size) * np.exp(3 * rng.normal(size=size))).astype("f4")
  x = x if signed else np.abs(x)
  for sign_repair in (False, signed):
    actual = quantize(
      x, block_size, signed, block_layout="flat", sign_repair=sign_repair
    )
    codes, absmax = references_8bit.quantize(
      x, optim.dynamic_map(signed), block_size, sign_repair
    )
    np.testing.assert_array_equal(actual.codes, codes)
    np.testing.assert_array_equal(actual.absmax, absmax)
    np.testing.assert_array_equal(
      optim.dequantize_blockwise(
        actual, block_size, signed, block_layout="flat"
      ),
      references_8bit.dequantize(
        codes, absmax, optim.dynamic_map(signed), block_size
      ),
    )


@pytest.mark.parametrize("shape", [(3, 40), (2, 3, 17), (4, 16), (5, 1), (33,)])
def test_rows_are_rows(shape):
  x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
  whole = quantize(x, 16)
  assert whole.codes.shape == shape
  assert whole.codes.dtype == jnp.uint8
  assert whole.absmax.shape == (*shape[:-1], -(-shape[-1] // 16))
  for index in np.ndindex(*shape[:-1]):
    row = quantize(x[index], 16, block_layout="flat")
    np.testing.assert_array_equal(whole.codes[index], row.codes)
    np.testing.assert_array_equal(whole.absmax[index], row.absmax)


@pytest.mark.parametrize("block_layout", ["rows", "flat"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 3)])
def test_scalars_and_empty_arrays(shape, block_layout):
  x = jnp.full(shape, -2.0)
  y = round_trip(x, 4, block_layout=block_layout)
  assert y.shape == shape
  np.testing.assert_allclose(y, x, rtol=0.01)


def test_last_block_may_be_short():
  x = jnp.concatenate([jnp.full(16, 100.0), jnp.full(3, 0.01)])
  np.testing.assert_array_equal(round_trip(x, 16), x)


@pytest.mark.parametrize(
  ("signed", "block_size", "percent"),
  [(True, 256, 1.08), (True, 2048, 1.25), (True, 2**20, 1.59)],
)
def test_error_of_normal_values(signed, block_size, percent):
  x = jnp.asarray(np.random.default_rng(0).normal(size=2**20), jnp.float32)
  error = np.linalg.norm(round_trip(x, block_size, signed) - x)
  error = 100 * error / np.linalg.norm(x)
  assert error == pytest.approx(percent, abs=0.03)


@pytest.mark.parametrize(
  ("signed", "block_size", "percent"),
  [(False, 256, 0.64), (False, 2048, 0.79), (True, 256, 1.28)],
)
def test_error_of_second_moments(signed, block_size, percent):
  x = np.random.default_rng(0).normal(size=2**20) ** 2
  x = jnp.asarray(x, jnp.float32)
  error = np.linalg.norm(round_trip(x, block_size, signed) - x)
  error = 100 * error / np.linalg.norm(x)
  assert error == pytest.approx(percent, abs=0.03)


def test_minus_one_is_not_a_value():
  x = jnp.array([-1.0, 0.1])
  y = -x
  for _ in range(10):
    x, y = round_trip(x, 2), round_trip(y, 2)
  assert x[0] == pytest.approx(-0.932, abs=5e-4)
  assert y[0] == 1


def test_zero_blocks():
  stored = quantize(jnp.zeros((2, 8)), 4)
  np.testing.assert_array_equal(stored.codes, 127)
  np.testing.assert_array_equal(stored.absmax, 0)
  stored = quantize(-jnp.zeros((2, 8)), 4, sign_repair=True)
  np.testing.assert_array_equal(optim.dequantize_blockwise(stored, 4), 0)
  assert not quantize(jnp.zeros(8), 4, False).codes.any()


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("signed", [True, False])
def test_what_is_not_finite_is_zero(bad, signed):
  x = jnp.array([0.5, bad, 1.0, 0.25, bad, bad, bad, bad])
  y = round_trip(x, 4, signed, sign_repair=False)
  np.testing.assert_allclose(y, [0.5, 0, 1, 0.25, 0, 0, 0, 0], rtol=0.02)


def test_negative_values_are_zero_without_signs():
  np.testing.assert_array_equal(
    round_trip(jnp.array([1.0, -5.0, -0.1, 0.0]), 4, False), [1, 0, 0, 0]
  )


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 3e38])
def test_scale_does_not_matter(scale):
  x = np.random.default_rng(0).uniform(-1, 1, 256).astype(np.float32)
  x[0] = 1
  y = round_trip(jnp.asarray(x * np.float32(scale)), 256)
  expected = round_trip(jnp.asarray(x), 256)
  # Rounding of the product and of the quotient may cross a midpoint.
  np.testing.assert_allclose(
    np.asarray(y) / np.float32(scale), expected, rtol=0.03, atol=1e-6
  )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtypes(dtype):
  x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 300)), dtype)
  stored = quantize(x)
  wide = quantize(x.astype(jnp.float32))
  jax.tree.map(np.testing.assert_array_equal, stored, wide)
  assert stored.absmax.dtype == jnp.float32
  assert optim.dequantize_blockwise(stored, dtype=dtype).dtype == dtype


@pytest.mark.parametrize(
  ("options", "error"),
  [
    ({"block_size": 0}, ValueError),
    ({"block_size": 2.5}, TypeError),
    ({"block_layout": "columns"}, ValueError),
  ],
)
def test_bad_options(options, error):
  (name,) = options
  with pytest.raises(error, match=name):
    optim.quantize_blockwise(jnp.ones(4), **options)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64])
def test_bad_dtype(dtype):
  with pytest.raises(TypeError, match="quantize_blockwise: .*floating"):
    optim.quantize_blockwise(jnp.ones(4, dtype))
