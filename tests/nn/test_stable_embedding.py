"""The embedding layer that 8-bit optimizers are stable with."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors, optim
from normjax.nn.stable_embedding import StableEmbedding

VOCAB, DIM = 96, 64


def layer(**options):
  """A fresh layer."""
  return StableEmbedding(VOCAB, DIM, rngs=nnx.Rngs(0), **options)


def test_is_a_layer_norm_of_the_lookup():
  embed = layer()
  tokens = jnp.array([[3, 1, 3], [0, VOCAB - 1, 7]])
  x = np.asarray(embed.embedding[...], np.float64)[np.asarray(tokens)]
  x = x - x.mean(axis=-1, keepdims=True)
  # Of variance 2 / (vocab + dim): eps = 1e-5 counts.
  expected = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)
  np.testing.assert_allclose(embed(tokens), expected, rtol=1e-4, atol=1e-5)


def test_xavier_uniform():
  embedding = layer().embedding[...]
  bound = math.sqrt(6 / (VOCAB + DIM))
  assert np.abs(embedding).max() <= bound
  assert np.abs(embedding).max() > 0.99 * bound
  # The deviation of n uniform values is known to 0.45 / sqrt(n).
  spread = 5 * 0.45 / math.sqrt(embedding.size)
  assert np.std(embedding) == pytest.approx(bound / math.sqrt(3), rel=spread)


def test_norm_is_computed_in_float32():
  """The cast comes last: bfloat16 only rounds the result."""
  tokens = jnp.arange(VOCAB)
  wide, narrow = layer(), layer(dtype=jnp.bfloat16)
  assert narrow(tokens).dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    narrow(tokens), wide(tokens).astype(jnp.bfloat16)
  )
  stored = layer(param_dtype=jnp.bfloat16)
  assert stored.embedding[...].dtype == jnp.bfloat16
  assert stored(tokens).dtype == jnp.bfloat16
  assert stored.norm.scale[...].dtype == jnp.float32


@pytest.mark.parametrize("norm", ["rms_norm", "identity"])
def test_any_norm(norm):
  assert layer(norm=norm)(jnp.arange(5)).shape == (5, DIM)


@pytest.mark.parametrize("name", ["adam_8bit", "momentum_8bit", "lion_8bit"])
def test_optimizer_keeps_its_state_in_float32(name):
  model = nnx.Dict(
    token=layer(), up=nnx.Linear(DIM, 128, rngs=nnx.Rngs(1), use_bias=False)
  )
  params = nnx.state(model, nnx.Param)
  described = optim.describe(name, params)
  assert "32-bit" in described["token/embedding"]
  assert "8-bit" in described["up/kernel"]
  tx = optim.make(name, learning_rate=0.01)
  state = tx.init(params)
  shapes = {leaf.shape: leaf.dtype for leaf in jax.tree.leaves(state)}
  assert shapes[VOCAB, DIM] == jnp.float32
  assert shapes[DIM, 128] == jnp.uint8

  def loss(params):
    split = nnx.split(model)[0]
    merged = nnx.merge(split, params)
    return jnp.mean(merged.up(merged.token(jnp.arange(VOCAB))) ** 2)

  updates, state = tx.update(jax.grad(loss)(params), state, params)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))


@pytest.mark.parametrize("sizes", [(0, 4), (4, -1), (4.0, 4)])
def test_bad_sizes(sizes):
  with pytest.raises(errors.UserError, match="num_embeddings|features"):
    StableEmbedding(*sizes, rngs=nnx.Rngs(0))
