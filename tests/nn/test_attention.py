import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax.nn import attention


def _qkv(kv_heads, seed=0):
  generator = np.random.default_rng(seed)

  def draw(heads):
    return generator.normal(size=(2, 5, heads, 4))

  return draw(4), draw(kv_heads), draw(kv_heads)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_equals_a_float64_transcription(kv_heads):
  q, k, v = _qkv(kv_heads)
  want = np.zeros_like(q)
  for b in range(2):
    for h in range(4):
      shared = h * kv_heads // 4
      for t in range(5):
        scores = k[b, : t + 1, shared] @ q[b, t, h] / 2.0
        weights = np.exp(scores - scores.max())
        want[b, t, h] = weights @ v[b, : t + 1, shared] / weights.sum()
  got = attention.causal_attention(
    *(jnp.asarray(x, jnp.float32) for x in (q, k, v))
  )
  # Dot products of 4, a softmax over 5, and sums of 5 float32 terms.
  np.testing.assert_allclose(got, want, atol=64 * 2**-24 * np.abs(v).max())


def test_rotation_keeps_lengths_and_sees_distances_only():
  """<R_t q, R_s k> depends on t - s (arXiv:2104.09864, equation 16)."""
  generator = np.random.default_rng(0)
  q, k = (jnp.asarray(generator.normal(size=8), jnp.float32) for _ in "qk")
  angles = attention.rotary_angles(12, 8, 10_000.0)

  def spread(x):
    return attention.rotate(jnp.broadcast_to(x, (1, 12, 1, 8)), angles)[0, :, 0]

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
  angles = attention.rotary_angles(3, 4, 100.0)
  np.testing.assert_allclose(angles, [[0, 0], [1, 0.1], [2, 0.2]])


def test_a_bad_head_size_is_named():
  from flax import nnx

  from normjax import errors

  with pytest.raises(errors.UserError, match="not a multiple of 2 x num_heads"):
    attention.Attention(12, 4, rngs=nnx.Rngs(0))


def test_dropout_keeps_the_mean_and_zeroes_the_rate():
  from normjax.nn.dropout import dropout

  x = jnp.ones(10_000)
  y = np.asarray(dropout(x, 0.25, jax.random.key(0)))
  # Five standard deviations of a mean of 10,000 coin tosses.
  assert abs((y == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 10_000)
  np.testing.assert_allclose(y[y > 0], 1 / 0.75, rtol=1e-6)
  assert dropout(x, 0.0, jax.random.key(0)) is x
  assert dropout(x, 0.5, None) is x
