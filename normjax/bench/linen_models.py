"""Models as users of flax.linen write them, in any dtype: peers of ours."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from normjax.types import Array


def _rotate(x_bthk: Array) -> Array:
  length, half = x_bthk.shape[1], x_bthk.shape[-1] // 2
  frequency = 10_000.0 ** (-np.arange(half) / half)
  angles = np.outer(np.arange(length), frequency)[:, None]
  cosine, sine = jnp.cos(jnp.float32(angles)), jnp.sin(jnp.float32(angles))
  a, b = jnp.split(x_bthk.astype(jnp.float32), 2, axis=-1)
  rotated = [a * cosine - b * sine, b * cosine + a * sine]
  return jnp.concatenate(rotated, axis=-1).astype(x_bthk.dtype)


class Block(nn.Module):
  """Pre-norm attention and feed-forward.

  Gated as LLaMA's, with rotary embeddings, RMS norms and no biases; or as
  GPT-2's.
  """

  num_heads: int
  hidden_dim: int
  gated: bool
  causal: bool
  dtype: Any

  @nn.compact
  def __call__(self, x_btd):
    """The stream after the block."""
    width = x_btd.shape[-1]
    heads = self.num_heads, width // self.num_heads
    norm = nn.RMSNorm if self.gated else nn.LayerNorm

    def dense(features, axis=-1):
      return nn.DenseGeneral(
        features, axis=axis, use_bias=not self.gated, dtype=self.dtype
      )

    h = norm(dtype=self.dtype)(x_btd)
    q, k, v = (dense(heads)(h) for _ in range(3))
    if self.gated:
      q, k = _rotate(q), _rotate(k)
    mixed = jax.nn.dot_product_attention(q, k, v, is_causal=self.causal)
    x_btd = x_btd + dense(width, axis=(-2, -1))(mixed)
    h = norm(dtype=self.dtype)(x_btd)
    if self.gated:
      gate = nn.silu(dense(self.hidden_dim)(h))
      return x_btd + dense(width)(gate * dense(self.hidden_dim)(h))
    return x_btd + dense(width)(nn.gelu(dense(self.hidden_dim)(h)))


class LanguageModel(nn.Module):
  """LLaMA with a head of its own, or GPT-2 with the embedding as head."""

  vocab_size: int
  num_layers: int
  num_heads: int
  model_dim: int
  hidden_dim: int
  gated: bool
  dtype: Any
  max_length: int = 1024

  @nn.compact
  def __call__(self, tokens_bt):
    """Logits."""
    embedding = nn.Embed(self.vocab_size, self.model_dim, dtype=self.dtype)
    x = embedding(tokens_bt)
    if not self.gated:
      shape = self.max_length, self.model_dim
      places = self.param("places", nn.initializers.normal(0.02), shape)
      x = x + places[: tokens_bt.shape[1]].astype(x.dtype)
    for _ in range(self.num_layers):
      x = Block(self.num_heads, self.hidden_dim, self.gated, True, self.dtype)(
        x
      )
    x = (nn.RMSNorm if self.gated else nn.LayerNorm)(dtype=self.dtype)(x)
    if not self.gated:
      return embedding.attend(x)
    return nn.Dense(self.vocab_size, use_bias=False, dtype=self.dtype)(x)


class ViT(nn.Module):
  """ViT-S/16 for 1000 classes, unless its sizes are other ones."""

  dtype: Any
  num_layers: int = 12
  num_heads: int = 6
  model_dim: int = 384
  hidden_dim: int = 1536
  patch_size: int = 16
  num_classes: int = 1000

  @nn.compact
  def __call__(self, images_byxc):
    """Logits."""
    width, zeros = self.model_dim, nn.initializers.zeros
    side = self.patch_size
    patches = nn.Conv(width, (side, side), strides=side, dtype=self.dtype)
    x = patches(images_byxc)
    x = x.reshape(x.shape[0], -1, width)
    token = self.param("class_token", zeros, (1, 1, width)).astype(x.dtype)
    token = jnp.broadcast_to(token, (x.shape[0], 1, width))
    x = jnp.concatenate([token, x], axis=1)
    shape = 1, x.shape[1], width
    places = self.param("places", nn.initializers.normal(0.02), shape)
    x = x + places.astype(x.dtype)
    sizes = self.num_heads, self.hidden_dim
    for _ in range(self.num_layers):
      x = Block(*sizes, gated=False, causal=False, dtype=self.dtype)(x)
    x = nn.LayerNorm(dtype=self.dtype)(x)
    return nn.Dense(self.num_classes, dtype=self.dtype)(x[:, 0])


class ResNet50(nn.Module):
  """Version 1.5, for 1000 classes, unless it is narrower."""

  dtype: Any
  width: int = 64
  num_classes: int = 1000

  @nn.compact
  def __call__(self, images_byxc):
    """Logits."""

    def conv_norm(x, features, size, strides=1):
      x = nn.Conv(
        features,
        (size, size),
        strides=strides,
        padding=size // 2,
        use_bias=False,
        dtype=self.dtype,
      )(x)
      return nn.BatchNorm(
        use_running_average=False, momentum=0.9, dtype=self.dtype
      )(x)

    x = nn.relu(conv_norm(images_byxc, self.width, 7, 2))
    x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    for stage, depth in enumerate((3, 4, 6, 3)):
      features = self.width * 2**stage
      for index in range(depth):
        strides = 2 if stage and not index else 1
        h = nn.relu(conv_norm(x, features, 1))
        h = nn.relu(conv_norm(h, features, 3, strides))
        h = conv_norm(h, 4 * features, 1)
        if not index:
          x = conv_norm(x, 4 * features, 1, strides)
        x = nn.relu(x + h)
    x = jnp.mean(x, axis=(1, 2))
    return nn.Dense(self.num_classes, dtype=self.dtype)(x)
