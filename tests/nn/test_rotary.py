"""Rotary positions: what the rotation keeps, and how exact its angles are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax.nn import rotary


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
