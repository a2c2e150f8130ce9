"""A LLaMA as a user of flax.linen writes it: the peer of ours."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from normjax.types import Array

_INIT = nn.initializers.normal(0.02)


def _dense(features, dtype, axis=-1):
  return nn.DenseGeneral(
    features, axis=axis, use_bias=False, kernel_init=_INIT, dtype=dtype
  )


def _rotate(x_bthk: Array) -> Array:
  length, half = x_bthk.shape[1], x_bthk.shape[-1] // 2
  frequency = 10_000.0 ** (-np.arange(half) / half)
  angles = np.outer(np.arange(length), frequency)[:, None]
  cosine = jnp.asarray(np.cos(angles), x_bthk.dtype)
  sine = jnp.asarray(np.sin(angles), x_bthk.dtype)
  a, b = jnp.split(x_bthk, 2, axis=-1)
  return jnp.concatenate(
    [a * cosine - b * sine, b * cosine + a * sine], axis=-1
  )


class Block(nn.Module):
  """Pre-norm attention and SwiGLU; the carry and nothing, for `nn.scan`."""

  num_heads: int
  hidden_dim: int
  dtype: Any = None

  @nn.compact
  def __call__(self, x_btd, _=None):
    """The stream after the block."""
    width = x_btd.shape[-1]
    heads = self.num_heads, width // self.num_heads
    h = nn.RMSNorm(dtype=self.dtype)(x_btd)
    q, k, v = (_dense(heads, self.dtype)(h) for _ in range(3))
    mixed = jax.nn.dot_product_attention(
      _rotate(q), _rotate(k), v, is_causal=True
    )
    x_btd = x_btd + _dense(width, self.dtype, axis=(-2, -1))(mixed)
    h = nn.RMSNorm(dtype=self.dtype)(x_btd)
    gate = nn.silu(_dense(self.hidden_dim, self.dtype)(h))
    h = gate * _dense(self.hidden_dim, self.dtype)(h)
    return x_btd + _dense(width, self.dtype)(h), None


class Llama(nn.Module):
  """Embedding, blocks in a loop or scanned, norm and head.

  Its arithmetic is in `dtype`, that of the parameters where it is None.
  """

  vocab_size: int
  num_layers: int
  num_heads: int
  model_dim: int
  hidden_dim: int
  scanned: bool
  dtype: Any = None

  @nn.compact
  def __call__(self, tokens_bt):
    """Logits (b, t, v)."""
    embed = nn.Embed(
      self.vocab_size, self.model_dim, embedding_init=_INIT, dtype=self.dtype
    )
    x_btd = embed(tokens_bt)
    sizes = self.num_heads, self.hidden_dim, self.dtype
    if self.scanned:
      layers = nn.scan(
        Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=self.num_layers,
      )
      x_btd, _ = layers(*sizes)(x_btd, None)
    else:
      for _ in range(self.num_layers):
        x_btd, _ = Block(*sizes)(x_btd)
    x_btd = nn.RMSNorm(dtype=self.dtype)(x_btd)
    logits = _dense(self.vocab_size, self.dtype)(x_btd)
    return logits.astype(jnp.float32)  # For the loss, as ours.
