"""Rotary positions: what the rotation keeps, and how exact its angles are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors
from normjax.nn import rotary, rotary_scaling


def test_rotation_keeps_lengths_and_sees_distances_only():
  """<R_t q, R_s k> depends on t - s (arXiv:2104.09864, equation 16)."""
  generator = np.random.default_rng(0)
  q, k = (jnp.asarray(generator.normal(size=8), jnp.float32) for _ in "qk")
  table = rotary.table(jnp.arange(12), 8, 10_000.0)

  def spread(x):
    return rotary.rotate(jnp.broadcast_to(x, (1, 12, 1, 8)), table)[0, :, 0]

  rotated_q, rotated_k = spread(q), spread(k)
  np.testing.assert_allclose(
    jnp.linalg.norm(rotated_q, axis=-1), jnp.linalg.norm(q), rtol=1e-6
  )
  scores = np.asarray(rotated_q @ rotated_k.T)
  for distance in range(-11, 12):
    diagonal = np.diagonal(scores, distance)
    # Eight products of float32 cosines of angles up to 11.
    np.testing.assert_allclose(diagonal, diagonal[0], atol=2e-5)
  assert scores.std() > 0.1


def test_angles_are_the_papers():
  table = rotary.table(jnp.arange(3), 4, 100.0)
  angles = np.array([[0, 0], [1, 0.1], [2, 0.2]])
  np.testing.assert_allclose(table.cosine, np.cos(angles), rtol=0, atol=4e-7)
  np.testing.assert_allclose(table.sine, np.sin(angles), rtol=0, atol=4e-7)


@pytest.mark.parametrize(("theta", "head_dim"), [(1e4, 64), (5e5, 128)])
def test_angles_are_exact_at_any_position(theta, head_dim):
  """Whole turns go first: only what is left of pi is rounded.

  A phase in [-pi, pi) is rounded to float32 and multiplied by a rounded
  constant, each by 2^-24 of itself, twice; the frequencies' 48 bits are off by
  2^-49 turns a position, and the functions by an ulp.
  """
  t = np.array([0, 1, -1, 4_095, 65_535, 65_536, 131_071, -70_000, 2**20])
  table = jax.jit(lambda t: rotary.table(t, head_dim, theta))(jnp.asarray(t))
  frequency = theta ** (-np.arange(0, head_dim, 2) / head_dim)
  angles = np.outer(t, frequency)
  bound = 3 * np.pi * 2**-24 + 2**-23 + 2 * np.pi * np.abs(t) * 2.0**-49
  for got, want in zip(table, (np.cos(angles), np.sin(angles)), strict=True):
    assert np.all(np.abs(got - want).max(axis=1) <= bound)


def _llama3(wavelength, factor, low, high, length):
  """As transformers says it, in wavelengths, one at a time."""
  if wavelength < length / high:
    return wavelength
  if wavelength > length / low:
    return wavelength * factor
  smooth = (length / wavelength - low) / (high - low)
  return 1 / ((1 - smooth) / (factor * wavelength) + smooth / wavelength)


def test_llama3_divides_slow_frequencies():
  frequency = 500_000.0 ** (-np.arange(0, 64, 2) / 64)
  scaling = rotary_scaling.resolve(
    "llama3(factor=32.0, original_length=256, high_frequency_factor=8.0)"
  )
  want = [
    2 * np.pi / _llama3(2 * np.pi / f, 32.0, 1.0, 8.0, 256) for f in frequency
  ]
  got = scaling(frequency)
  np.testing.assert_allclose(got, want, rtol=1e-14)
  # All three kinds are there.
  assert got[0] == frequency[0]
  np.testing.assert_allclose(got[-1], frequency[-1] / 32, rtol=1e-14)
  ratio = frequency / got
  assert np.any((ratio > 1.01) & (ratio < 31))


def test_linear_is_a_division_of_positions():
  scaled = rotary.table(
    jnp.arange(0, 16, 4), 8, 1e4, scaling=rotary_scaling.linear(4.0)
  )
  plain = rotary.table(jnp.arange(4), 8, 1e4)
  for got, want in zip(scaled, plain, strict=True):
    np.testing.assert_allclose(got, want, rtol=0, atol=4e-7)


def test_no_scaling_is_the_same_bits():
  none = rotary_scaling.resolve("none")
  for got, want in zip(
    rotary.table(jnp.arange(9), 8, 1e4, scaling=none),
    rotary.table(jnp.arange(9), 8, 1e4),
    strict=True,
  ):
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("yarn(factor=4.0)", "unknown rope_scaling 'yarn'"),
    ("linear(factor=0.5)", "linear: factor=0.5; allowed: a finite number >= 1"),
    (
      "llama3(high_frequency_factor=1.0)",
      "high_frequency_factor=1.0; allowed: a finite number > 1",
    ),
    ("llama3(original_length=0)", "original_length=0; allowed"),
    ("none(factor=2.0)", "'none' has no option 'factor'"),
  ],
)
def test_a_bad_scaling_is_named(spec, message):
  with pytest.raises(errors.UserError, match=message):
    rotary_scaling.resolve(spec)


def test_equal_scalings_are_one_program():
  """The static part of a model holds them."""
  first, second = (rotary_scaling.resolve("llama3(factor=4.0)") for _ in "ab")
  assert first == second
  assert hash(first) == hash(second)
  assert first != rotary_scaling.resolve("llama3")
