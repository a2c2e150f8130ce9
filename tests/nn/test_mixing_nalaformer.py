import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax.nn import mixing

NAMES = ("nalaformer", "nalaformer_paper")


@functools.partial(jax.jit, static_argnames=("name", "eps", "angle"))
def _weights(q, k, name, **options):
  """The weights on the keys: the values are unit vectors."""
  length = k.shape[1]
  identity = jnp.eye(length)[None, :, None]
  values = jnp.broadcast_to(identity, (*k.shape[:3], length))
  mixed = mixing.make(name, **options).apply({}, q, k, values, causal=False)
  return mixed.values_bthk


def _qk(seed=0, length=16):
  rng = np.random.default_rng(seed)
  return (
    jnp.asarray(rng.normal(size=(1, length, 2, 8)), jnp.float32)
    for _ in range(2)
  )


@pytest.mark.parametrize("name", NAMES)
def test_entropy_falls_as_the_query_grows(name):
  """The claim of arXiv:2506.21137; plain linear attention ignores |q|."""
  q, k = _qk()
  q /= jnp.linalg.norm(q, axis=-1, keepdims=True)
  entropies = []
  for norm in (0.01, 0.3, 1.0, 3.0):
    weights = np.float64(_weights(norm * q, k, name, eps=1e-20))
    # Sums of 16 float32 terms.
    np.testing.assert_allclose(weights.sum(-1), 1, atol=32 * 2**-24)
    logs = np.log(np.where(weights > 0, weights, 1))
    entropies.append(-(weights * logs).sum(-1).mean())
  assert (np.diff(entropies) < 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_weight_is_negative(name):
  q, k = _qk(1)
  assert _weights(3 * q, k, name).min() >= 0


def test_opposite_ends_cancel_at_an_angle_of_a_quarter_of_pi():
  """cos(angle (1 - -1)): 0 at pi / 4 and negative at 1."""
  q = jnp.zeros((1, 1, 1, 2)).at[..., 0].set(1.0)
  k = jnp.zeros((1, 2, 1, 2)).at[0, 0, 0, 0].set(-1.0).at[0, 1, 0, 0].set(2.0)
  at_quarter = _weights(q, k, "nalaformer_paper")[0, 0, 0]
  np.testing.assert_allclose(at_quarter, [0, 1], atol=1e-6)
  assert _weights(q, k, "nalaformer_paper", angle=1.0)[0, 0, 0, 0] < -0.01


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_zero_queries_and_keys_give_zeros_and_finite_gradients(name, causal):
  """The official code divides 0 by 0 there."""
  q, k = _qk()
  q, k = q.at[:, 3].set(0), k.at[:, 5].set(0).at[..., 0].set(0)
  method = mixing.make(name)

  def loss(q, k, v):
    y = method.apply({}, q, k, v, causal=causal).values_bthk
    return jnp.sum(y), y

  gradients, y = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(
    q, k, k + 1
  )
  np.testing.assert_array_equal(y[:, 3], 0)
  for gradient in gradients:
    assert np.isfinite(gradient).all()


def test_chunks_change_the_cost_alone():
  q, k = _qk(length=13)
  v = k + 1

  @functools.partial(jax.jit, static_argnums=0)
  def apply(chunk):
    method = mixing.make("nalaformer", chunk=chunk)
    return method.apply({}, q, k, v, causal=True).values_bthk

  whole = apply(64)
  for chunk in (1, 4):
    # Sums of 13 float32 terms in another order.
    np.testing.assert_allclose(apply(chunk), whole, atol=64 * 2**-24)
