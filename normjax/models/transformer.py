"""A LLaMA-style decoder: Touvron et al. 2023, arXiv:2302.13971."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors, norms
from normjax.nn import checks
from normjax.nn import placement as placement_lib
from normjax.nn.attention import Attention
from normjax.nn.dropout import dropout
from normjax.nn.feed_forward import SwiGLU
from normjax.nn.norm_layer import NormLayer
from normjax.types import Array


class Block(nnx.Module):
  """Attention, then feed-forward, each with the norms of the placement."""

  def __init__(
    self,
    attention: Attention,
    feed_forward: SwiGLU,
    *,
    norm: norms.Norm,
    placement: placement_lib.Placement,
    model_dim: int,
    rngs: nnx.Rngs,
  ):
    """Makes a norm for each slot of each branch."""
    self.attention, self.feed_forward = attention, feed_forward
    self.slots = tuple(sorted(placement.slots))
    for branch in ("attention", "feed_forward"):
      for slot in self.slots:
        layer = NormLayer(norm, (model_dim,), rngs=rngs)
        setattr(self, f"{branch}_{slot}_norm", layer)

  def _residual(self, x_btd, branch: str, train: bool, key: Array | None):
    def normalize(slot):
      layer = getattr(self, f"{branch}_{slot}_norm")
      return lambda x: layer(x, train=train)

    return placement_lib.residual(
      x_btd,
      lambda x: getattr(self, branch)(x, key=key),
      {slot: normalize(slot) for slot in self.slots},
    )

  def __call__(
    self, x_btd: Array, *, train: bool, key: Array | None = None
  ) -> Array:
    """The stream after the block."""
    keys = (None, None) if key is None else jax.random.split(key)
    x_btd = self._residual(x_btd, "attention", train, keys[0])
    x_btd = self._residual(x_btd, "feed_forward", train, keys[1])
    self.sow(nnx.Intermediate, "stream", x_btd, capture_noop=True)
    return x_btd


class Llama(nnx.Module):
  """Decoder with rotary positions, SwiGLU and no biases."""

  reads: ClassVar[frozenset[str]] = frozenset({"tokens"})

  def __init__(
    self,
    vocab_size: int = 256,
    *,
    num_layers: int = 2,
    num_heads: int = 4,
    num_kv_heads: int | None = None,
    model_dim: int = 64,
    hidden_dim: int | None = None,
    rope_theta: float = 10_000.0,
    dropout_rate: float = 0.0,
    tied_embeddings: bool = False,
    scaled_embeddings: bool = False,
    norm: norms.NormSpec = "rms_norm",
    placement: str = "pre",
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    """Makes the model.

    Kernels start normal with standard deviation 0.02, those that write to
    the stream 0.02 / sqrt(2 num_layers), as in GPT-2 (Radford et al. 2019,
    section 2.3).

    Args:
      vocab_size: v.
      num_layers: blocks.
      num_heads: query heads.
      num_kv_heads: key and value heads; None: as many.
      model_dim: d.
      hidden_dim: of the feed-forward; None: 8 d / 3, up to a multiple of 16.
      rope_theta: base of the rotary frequencies.
      dropout_rate: on the embedding and on each branch's output.
      tied_embeddings: whether the head is the embedding's transpose.
      scaled_embeddings: whether a learned scalar, sqrt(d) at first, multiplies
        the embeddings, as LLaMA with DyT has it (arXiv:2503.10622, section 5).
      norm: what is in every norm slot.
      placement: "pre" or "post".
      compute_dtype: "float32" or "bfloat16"; parameters, statistics and
        logits are float32 either way.
      rngs: stream "params".

    Raises:
      UserError: sizes that do not fit, or an unknown name.
    """
    checks.check_sizes(
      vocab_size=vocab_size, num_layers=num_layers, model_dim=model_dim
    )
    if not 0.0 <= dropout_rate < 1.0:
      raise errors.UserError(f"dropout_rate={dropout_rate} must be in [0, 1).")
    if hidden_dim is None:
      hidden_dim = 16 * math.ceil(8 * model_dim / 3 / 16)
    checks.check_sizes(hidden_dim=hidden_dim)
    dtype = checks.compute_dtype(compute_dtype)
    resolved = norms.resolve(norm)
    self.placement = placement_lib.resolve(placement)
    self.dropout_rate = dropout_rate
    self.embedding = nnx.Embed(
      vocab_size,
      model_dim,
      embedding_init=nnx.initializers.normal(0.02),
      dtype=dtype,
      rngs=rngs,
    )
    if scaled_embeddings:
      self.embedding_scale = nnx.Param(jnp.asarray(math.sqrt(model_dim)))
    self.scaled_embeddings = scaled_embeddings
    shared = {
      "dropout_rate": dropout_rate,
      "dtype": dtype,
      "rngs": rngs,
    }
    out_std = 0.02 / math.sqrt(2 * num_layers)
    self.layers = nnx.List(
      [
        Block(
          Attention(
            model_dim,
            num_heads,
            num_kv_heads=num_kv_heads,
            rope_theta=rope_theta,
            out_init=nnx.initializers.normal(out_std),
            **shared,
          ),
          SwiGLU(model_dim, hidden_dim, out_std=out_std, **shared),
          norm=resolved,
          placement=self.placement,
          model_dim=model_dim,
          rngs=rngs,
        )
        for _ in range(num_layers)
      ]
    )
    if self.placement.final_norm:
      self.final_norm = NormLayer(resolved, (model_dim,), rngs=rngs)
    if not tied_embeddings:
      self.head = nnx.Linear(
        model_dim,
        vocab_size,
        use_bias=False,
        kernel_init=nnx.initializers.normal(0.02),
        dtype=dtype,
        preferred_element_type=jnp.float32,
        rngs=rngs,
      )
    self.tied_embeddings = tied_embeddings

  def __call__(
    self, tokens_bt: Array, *, train: bool = True, key: Array | None = None
  ) -> Array:
    """Next-token logits.

    Args:
      tokens_bt: int32.
      train: whether batch statistics are of this batch and dropout is on.
      key: of dropout; None turns it off.

    Returns:
      (b, t, v), float32.
    """
    key = key if train and self.dropout_rate else None
    keys = (
      [None] * (len(self.layers) + 1)
      if key is None
      else jax.random.split(key, len(self.layers) + 1)
    )
    x_btd = self.embedding(tokens_bt)
    if self.scaled_embeddings:
      x_btd = x_btd * self.embedding_scale.get_value().astype(x_btd.dtype)
    x_btd = dropout(x_btd, self.dropout_rate, keys[-1])
    for layer, layer_key in zip(self.layers, keys[:-1], strict=True):
      x_btd = layer(x_btd, train=train, key=layer_key)
    if self.placement.final_norm:
      x_btd = self.final_norm(x_btd, train=train)
    if not self.tied_embeddings:
      return self.head(x_btd)
    embedding_vd = self.embedding.embedding.get_value().astype(x_btd.dtype)
    # Summed in float32 and left there: bfloat16 logits would be rounded.
    return jnp.einsum(
      "btd,vd->btv", x_btd, embedding_vd, preferred_element_type=jnp.float32
    )
