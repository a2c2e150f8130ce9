"""Codes of 4 bits and of FP8: their values, their rounding, their facts."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from normjax import optim
from normjax.optim import codebooks
from normjax.optim.codebooks import Rounding
from tests import support

SIGNED = ("dynamic4", "dynamic4_closed", "nf4", "e4m3")
UNSIGNED = ("linear4", "dynamic4", "dynamic4_nonzero", "e4m3")
EVERY = [(code, True) for code in SIGNED] + [(code, False) for code in UNSIGNED]


def round_trip(x, block_size, signed=True, **options):
  """What is left of x."""
  stored = optim.quantize_blockwise(x, block_size, signed, **options)
  kept = {k: v for k, v in options.items() if k in ("code", "block_layout")}
  return optim.dequantize_blockwise(stored, block_size, signed, **kept)


def relative_error(x, code, signed):
  error = np.linalg.norm(round_trip(x, 128, signed, code=code) - x)
  return 100 * error / np.linalg.norm(x)


def test_maps():
  """Of torchao (create_dynamic_map(True, 3, 4), linspace(0, 1, 17)[1:])."""
  half = [0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875]
  signed = sorted([0, 1, *half, *(-x for x in half)])
  closed = [-1 if x == -0.0055 else x for x in signed]
  np.testing.assert_allclose(
    codebooks.values("dynamic4", True), signed, rtol=1e-6
  )
  np.testing.assert_allclose(
    codebooks.values("dynamic4_closed", True), sorted(closed), rtol=1e-6
  )
  np.testing.assert_array_equal(
    codebooks.values("linear4", False), np.arange(1, 17) / 16
  )
  unsigned = codebooks.values("dynamic4", False)
  assert len(unsigned) == 16
  assert (unsigned[0], unsigned[-1]) == (0, 1)
  np.testing.assert_array_equal(
    codebooks.values("dynamic4_nonzero", False), unsigned[1:]
  )
  for code, signed in EVERY:
    if code != "e4m3":
      assert (np.diff(codebooks.values(code, signed)) > 0).all()


@pytest.mark.parametrize(("code", "signed"), EVERY)
@pytest.mark.parametrize(
  ("shape", "block_layout"), [((6, 10), "rows"), ((3, 4, 6), "flat")]
)
def test_equals_transcription(code, signed, shape, block_layout):
  """The nearest value, ties up, relative to the largest of each block."""
  x = support.normal(*shape, seed=1)
  x = x if signed else jnp.abs(x)
  stored = optim.quantize_blockwise(
    x, 4, signed, code=code, block_layout=block_layout
  )
  rows = np.array(x).reshape((1, -1) if block_layout == "flat" else shape)
  for start in range(0, rows.shape[1], 4):
    block = rows[:, start : start + 4]
    scale = np.abs(block).max(axis=1, keepdims=True)
    if code == "e4m3":
      scale = scale / np.float32(448)
      found = (block / scale).astype(ml_dtypes.float8_e4m3fn)
      found = found.astype(np.float32)
    else:
      # Of two that are as near, the upper.
      table = codebooks.values(code, signed)[::-1]
      distance = np.abs(block[..., None] / scale[..., None] - table)
      found = table[distance.argmin(axis=-1)]
    rows[:, start : start + 4] = found * scale
  left = optim.dequantize_blockwise(
    stored, 4, signed, code=code, block_layout=block_layout
  )
  # XLA multiplies by a rounded 1 / 448: the scale may be an ulp off.
  rtol = 2.0**-22 if code == "e4m3" else 0
  np.testing.assert_allclose(left, rows.reshape(shape), rtol=rtol, atol=0)
  halved = code != "e4m3"
  assert stored.codes.dtype == jnp.uint8
  assert stored.codes.shape == (*shape[:-1], shape[-1] // (2 if halved else 1))


def test_the_first_of_two_is_in_the_high_half():
  stored = optim.quantize_blockwise(
    jnp.array([1.0, 0.0]), 2, code="dynamic4", block_layout="flat"
  )
  np.testing.assert_array_equal(stored.codes, [0xF7])


def test_ties_go_up():
  """As in torchao; between 1/16 and 2/16, and so on."""
  middle = (np.arange(15) + 1.5) / 16
  x = jnp.asarray([1.0, *middle], jnp.float32)
  left = round_trip(x, 16, False, code="linear4")
  np.testing.assert_array_equal(left[1:], (np.arange(15) + 2) / 16)


def test_a_negative_extreme_drifts():
  """Torchao's map has no -1: .8875^10 = .303. The closed map has one."""
  for code, kept in (("dynamic4", 0.303), ("dynamic4_closed", 1), ("nf4", 1)):
    x, y = jnp.array([-1.0, 0.1]), jnp.array([1.0, 0.1])
    for _ in range(10):
      x, y = round_trip(x, 2, code=code), round_trip(y, 2, code=code)
    assert -x[0] == pytest.approx(kept, abs=5e-4)
    assert y[0] == 1


def test_without_zero_small_entries_grow():
  """g^2 of 1 beside 1e-3: 62.5 times, steps 7.9 times too short."""
  v = jnp.full(128, 1e-3).at[0].set(1.0)
  left = round_trip(v, 128, False, code="linear4")[1] / 1e-3
  assert left == pytest.approx(62.5)
  assert round_trip(v, 128, False, code="dynamic4")[1] == 0
  assert round_trip(v, 128, False, code="dynamic4_nonzero")[1] == (
    pytest.approx(0.00325)
  )
  for code in ("linear4", "dynamic4_nonzero"):
    tiny = jnp.full(128, 1e-30).at[0].set(1.0)
    assert (round_trip(tiny, 128, False, code=code) > 0).all()


def test_fp8_underflows_in_squares_first():
  """Halfway to 2^-9 / 448 = 4.4e-6 of the largest; m of the same g is kept."""
  v = jnp.array([1.0, 2.1e-6, 2.3e-6, 1e-5])
  left = round_trip(v, 4, False, code="e4m3")
  np.testing.assert_array_equal(np.asarray(left) > 0, [True, False, True, True])
  assert (round_trip(jnp.sqrt(v), 4, code="e4m3") > 0).all()


@pytest.mark.parametrize(
  ("code", "signed", "percent"),
  [("dynamic4", True, 14.9), ("linear4", False, 18.1), ("nf4", True, 9.6)],
)
def test_errors(code, signed, percent):
  x = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
  x = x if signed else x * x
  assert relative_error(jnp.asarray(x), code, signed) == pytest.approx(
    percent, abs=0.2
  )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("code", "signed"), EVERY)
def test_what_is_not_finite_is_zero(code, signed, bad):
  """And does not count in the scale; without a 0 it is the least value."""
  left = round_trip(jnp.array([0.5, bad, 1.0, 0.0]), 4, signed, code=code)
  assert left[2] == 1
  least = round_trip(jnp.array([0.5, 0.0, 1.0, 0.0]), 4, signed, code=code)
  np.testing.assert_array_equal(left, least)
  zeros = round_trip(jnp.array([bad, 0.0]), 2, signed, code=code)
  np.testing.assert_array_equal(zeros, 0)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4)])
def test_empty_arrays(shape):
  assert round_trip(jnp.zeros(shape), 4, code="dynamic4").shape == shape


def draws(shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).random(shape), jnp.float32)


def test_stochastic_rounding_is_right_on_average():
  """Of the values: within 4 standard errors, over 4096 draws of each."""
  x = jnp.tile(jnp.array([1.0, 0.3, -0.6, 0.001, -0.99, 0.0]), (4096, 1))
  left = round_trip(x, 6, code="nf4", rounding=Rounding(draws(x.shape)))
  mean, std = (np.asarray(f(left, axis=0)) for f in (np.mean, np.std))
  assert (np.abs(mean - x[0]) <= 4 * std / 64 + 1e-6).all()
  np.testing.assert_array_equal(std[[0, 5]], 0)


def test_rounding_in_preconditioner_space():
  """1 / (sqrt(v) + eps) is right on average there, and far off in v's own."""
  eps, correction = 1e-8, 0.5
  values = jnp.array([1.0, 0.3, 0.01, 0.002, 0.0, 0.09])
  v = jnp.tile(1e-4 * values, (4096, 1))

  def h(v):
    return 1 / (np.sqrt(np.float64(v) / correction) + eps)

  def error(rounding):
    left = h(round_trip(v, 6, False, code="dynamic4", rounding=rounding))
    return np.mean(left, axis=0) / h(v[0]) - 1, np.std(left, axis=0) / h(v[0])

  uniform = draws(v.shape)
  bias, std = error(Rounding(uniform, correction, eps))
  # Beside 0, a draw of it is seldom, and large: 4 standard errors of a
  # probability below 1 / 4096 are not those that were seen.
  seen = np.array([0, 1, 2, 4, 5])
  assert (np.abs(bias)[seen] <= 4 * std[seen] / 64 + 1e-5).all()
  assert abs(bias[3]) < 1
  plain, _ = error(Rounding(uniform))
  assert plain[3] > 1e3


def test_calibrated_scales():
  """The error of a block is orthogonal to it: EDEN."""
  v = jnp.asarray(np.random.default_rng(0).random((8, 32)) ** 4, jnp.float32)
  rounding = Rounding(calibrated=True)
  left = round_trip(v, 16, False, code="dynamic4_nonzero", rounding=rounding)
  for x, y in zip(v.reshape(-1, 16), left.reshape(-1, 16), strict=True):
    # Two sums of 16 terms, and the scale, in float32.
    assert float(x @ (y - x)) == pytest.approx(
      0, abs=40 * 2**-24 * float(x @ x)
    )


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"code": "dynamic5"}, "code='dynamic5'; allowed: 'dynamic8', 'e4m3'"),
    ({"code": "linear4"}, "code='linear4'; allowed: .*'nf4'"),
    ({"code": "nf4", "signed": False}, "code='nf4'; allowed: .*'linear4'"),
    ({"code": "nf4", "block_size": 5}, "block_size=5; allowed: an even int"),
  ],
)
def test_bad_options(options, message):
  with pytest.raises(ValueError, match=f"quantize_blockwise: {message}"):
    optim.quantize_blockwise(jnp.ones(4), **options)


def test_an_odd_last_axis_does_not_pack():
  with pytest.raises(ValueError, match=r"shape \(4, 7\); 'nf4' keeps two"):
    optim.quantize_blockwise(jnp.ones((4, 7)), code="nf4")


def test_shapes_are_known_before_values():
  """In shapes alone, and compiled: the same codes."""
  x = support.normal(4, 8)
  take = jax.jit(lambda x: optim.quantize_blockwise(x, 4, code="nf4"))
  shapes = jax.eval_shape(take, x)
  plain = optim.quantize_blockwise(x, 4, code="nf4")
  for a, b, c in zip(take(x), plain, shapes, strict=True):
    np.testing.assert_array_equal(a, b)
    assert (c.shape, c.dtype) == (a.shape, a.dtype)
