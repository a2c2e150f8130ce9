"""Decoders: LLaMA and GPT-2, at the sizes of the papers' tables by name."""

import math
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx

from normjax import errors, norms, validate
from normjax.nn import attention_checks, checks, products, roles, shifted
from normjax.nn.dropout import dropout, split
from normjax.nn.stack import Stack
from normjax.nn.tied_head import HasTiedHead
from normjax.norms import modes
from normjax.registry import near_misses
from normjax.types import Array

_STD = 0.02  # Of embeddings and positions.


def _size(layers: int, heads: int, model: int, hidden: int | None):
  return {
    "num_layers": layers,
    "num_heads": heads,
    "model_dim": model,
    "hidden_dim": hidden,
  }


# Of GaLore (60m, 7b: arXiv:2403.03507) and Mix-LN (2412.13795): 32,000 tokens.
LLAMA_SIZES = {
  "tiny": _size(2, 4, 64, None),
  "60m": _size(8, 8, 512, 1376),
  "71m": _size(12, 8, 512, 1368),
  "130m": _size(12, 12, 768, 2048),
  "250m": _size(24, 16, 768, 2560),
  "350m": _size(24, 16, 1024, 2736),
  "1b": _size(24, 32, 2048, 5461),
  "7b": _size(32, 32, 4096, 11008),
}
# Radford et al. 2019, table 2; 50,257 tokens.
GPT2_SIZES = {
  "tiny": _size(2, 4, 64, 256),
  "small": _size(12, 12, 768, 3072),
  "medium": _size(24, 16, 1024, 4096),
}


def choose_size(
  model: str, sizes: dict[str, dict[str, Any]], size: str, **given: Any
) -> dict[str, Any]:
  """The dimensions of that size, with those that are given replaced.

  Raises:
    UserError: no such size.
  """
  if size not in sizes:
    raise errors.UserError(
      f"{model} has no size {size!r}.{near_misses(size, sizes)}"
      f" Known: {', '.join(sizes)}."
    )
  given = {key: value for key, value in given.items() if value is not None}
  # The hidden size of a table goes with its model size.
  if "model_dim" in given:
    given = {"hidden_dim": None, **given}
  return {**sizes[size], **given}


# What a model without rotary positions does not offer of `Stack`.
NO_ROTATION = frozenset({"causal", "rope_theta", "rotary_dim", "rope_scaling"})


class _Decoder(HasTiedHead, Stack):
  """Token embedding, causal blocks and a head."""

  reads: ClassVar[frozenset[str]] = frozenset({"tokens"})
  hands_options_to: ClassVar[tuple[type, ...]] = (Stack,)
  # The table's `make` does not offer what these models set themselves.
  fixes_options: ClassVar[frozenset[str]] = frozenset({"causal", "rope_theta"})
  parameter_roles: ClassVar[roles.Declared] = {
    "position_embedding": roles.positions("length", "embed"),
    "embedding_scale": roles.gain(),
    "head/kernel": roles.kernel("embed", "vocab"),
  }
  end_layers: ClassVar[roles.Ends] = roles.Ends("embedding", "head")
  draws_for: ClassVar[tuple[str, ...]] = ("layers", "head")  # `nn.shifted`.

  def __init__(
    self,
    vocab_size: int,
    *,
    dimensions: dict[str, Any],
    dropout_rate: float,
    tied_embeddings: bool,
    scaled_embeddings: bool,
    embedding_std: float,
    max_length: int | None,
    compute_dtype: str,
    rngs: nnx.Rngs,
    **stack: Any,
  ):
    validate.counts("transformer", vocab_size=vocab_size, **dimensions)
    validate.rates("transformer", dropout_rate=dropout_rate)
    dtype = checks.compute_dtype(compute_dtype)
    model_dim = dimensions["model_dim"]
    self.dropout_rate = dropout_rate
    validate.number("transformer", "embedding_std", embedding_std, above=0.0)
    self.embedding = nnx.Embed(
      vocab_size,
      model_dim,
      embedding_init=nnx.initializers.normal(embedding_std),
      dtype=dtype,
      rngs=rngs,
    )
    self.max_length = max_length
    if max_length is not None:
      validate.counts("transformer", max_length=max_length)
      self.position_embedding = nnx.Param(
        nnx.initializers.normal(_STD)(
          rngs.params(), (max_length, model_dim), jnp.float32
        )
      )
    self.scaled_embeddings = scaled_embeddings
    if scaled_embeddings:
      self.embedding_scale = nnx.Param(jnp.asarray(math.sqrt(model_dim)))
    super().__init__(
      **dimensions,
      causal=True,
      dropout_rate=dropout_rate,
      dtype=dtype,
      rngs=rngs,
      **stack,
    )
    self.tied_embeddings = tied_embeddings
    if not tied_embeddings:
      self.head = nnx.Linear(
        model_dim,
        vocab_size,
        use_bias=False,
        kernel_init=self.head_init,
        dtype=dtype,
        preferred_element_type=checks.logits_dtype(dtype),
        dot_general=products.dot_general,
        rngs=rngs,
      )

  def __call__(
    self,
    tokens_bt: Array,
    *,
    train: modes.Train = None,
    mask_bt: Array | None = None,
    position_ids: Array | None = None,
    key: Array | None = None,
  ) -> Array:
    """Next-token logits.

    Args:
      tokens_bt: integers from 0 to vocab_size - 1. Checked where they are
        known, which they are not inside a compiled function.
      train: of the norms, and whether dropout is on; see `NormLayer`.
      mask_bt: true for real tokens; the others are neither attended to nor in
        the statistics of a batch, and have no position: padding on either side
        leaves the logits of real tokens as they are.
      position_ids: (t,) or (b, t), integers; None: where a token stands among
        the real ones.
      key: of dropout; needed where there is some in training.

    Returns:
      (b, t, v), float32; float64 where that is computed with.

    Raises:
      UserError: tokens or positions out of range, tokens that are not (b, t),
        or dropout in training without a key.
    """
    keys = split(key, 2, self.dropout_rate, self.drop_path_rate)
    own_key = self.noise_key(train, keys[0], dropout_rate=self.dropout_rate)
    checks.check_sequences("tokens", tokens_bt)
    checks.check_ids(
      "tokens", tokens_bt, self.embedding.num_embeddings, "vocab_size"
    )
    tokens_bt = jnp.asarray(tokens_bt)
    if not tokens_bt.shape[1]:
      raise errors.UserError(
        f"tokens of shape {tokens_bt.shape} are no sequences: each needs one"
        " token or more."
      )
    mask_bt = None if mask_bt is None else jnp.asarray(mask_bt)
    positions = self._positions(tokens_bt.shape, mask_bt, position_ids)
    x_btd = self.embedding(tokens_bt)
    if self.scaled_embeddings:
      x_btd = x_btd * self.embedding_scale[...].astype(x_btd.dtype)
    if self.max_length is not None:
      # Of 0 to t - 1 a slice, not a gather.
      rows = self.position_embedding[: tokens_bt.shape[1]]
      if positions is not None:
        rows = jnp.take(self.position_embedding[...], positions, axis=0)
      x_btd += rows.astype(x_btd.dtype)
    x_btd = dropout(x_btd, self.dropout_rate, own_key)
    x_btd = self.run(
      x_btd, train=train, mask_bt=mask_bt, positions=positions, key=keys[1]
    )
    if not self.tied_embeddings:
      return self.head(shifted.draw_after(self.head, x_btd))
    embedding_vd = self.embedding.embedding[...].astype(x_btd.dtype)
    # Summed in float32 and left there: bfloat16 logits would be rounded.
    wide = checks.logits_dtype(x_btd.dtype)
    return jnp.einsum(
      "btd,vd->btv", x_btd, embedding_vd, preferred_element_type=wide
    )

  def _positions(
    self, shape: tuple[int, ...], mask_bt: Array | None, given: Array | None
  ) -> Array | None:
    """Of each token; None: 0 to t - 1."""
    if given is not None:
      if jnp.shape(given) not in (shape, shape[1:]):
        raise errors.UserError(
          f"position_ids have one entry per token, shape {shape} or"
          f" {shape[1:]}; got {jnp.shape(given)}."
        )
      checks.check_integers("position_ids", given)
      # Rotations have no first and no last position.
      if self.max_length is not None:
        checks.check_ids("position_ids", given, self.max_length, "max_length")
      return jnp.asarray(given)
    if self.max_length is not None and shape[1] > self.max_length:
      raise errors.UserError(
        f"{shape[1]} tokens are more than max_length={self.max_length}."
      )
    if mask_bt is None:
      return None
    attention_checks.check_mask(shape, mask_bt)
    real = jnp.asarray(mask_bt).astype(bool).astype(jnp.int32)
    return jnp.maximum(jnp.cumsum(real, axis=1) - 1, 0)


class Llama(_Decoder):
  """Rotary positions, SwiGLU and no biases: arXiv:2302.13971."""

  def __init__(
    self,
    vocab_size: int = 256,
    *,
    size: str = "tiny",
    num_layers: int | None = None,
    num_heads: int | None = None,
    model_dim: int | None = None,
    hidden_dim: int | None = None,
    norm: norms.NormSpec = "rms_norm",
    activation: str = "swiglu",
    rope_theta: float = 10_000.0,
    use_bias: bool = False,
    dropout_rate: float = 0.0,
    tied_embeddings: bool = False,
    scaled_embeddings: bool = False,
    embedding_std: float = _STD,
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
    **stack: Any,
  ):
    """Makes the model.

    Args:
      vocab_size: v.
      size: one of `LLAMA_SIZES`, for the dimensions that are None.
      num_layers: blocks.
      num_heads: query heads.
      model_dim: d.
      hidden_dim: of the feed-forward; where d is given and this is not,
        8 d / 3, up to a multiple of 16.
      norm: what is in every norm slot.
      activation: see `Stack`.
      rope_theta: base of the rotary frequencies.
      use_bias: see `Stack`.
      dropout_rate: on the embedding and on each branch's output.
      tied_embeddings: whether the head is the embedding's transpose.
      scaled_embeddings: whether a learned scalar, sqrt(d) at first, multiplies
        the embeddings, as LLaMA with DyT has it (arXiv:2503.10622, section 5).
      embedding_std: standard deviation with which the embeddings of tokens
        start; Mix-LN's code (pixeli99/MixLN) has sqrt(2 / 5).
      compute_dtype: "float32" or "bfloat16"; parameters, statistics and
        logits are float32 either way. "float64", where JAX has it, for exact
        comparisons: statistics and logits are float64 then, parameters as they
        are set.
      rngs: stream "params".
      **stack: the other options of `normjax.nn.stack.Stack`.

    Raises:
      UserError: sizes that do not fit, or an unknown name.
    """
    dimensions = choose_size(
      "llama",
      LLAMA_SIZES,
      size,
      num_layers=num_layers,
      num_heads=num_heads,
      model_dim=model_dim,
      hidden_dim=hidden_dim,
    )
    validate.counts("transformer", model_dim=dimensions["model_dim"])
    if dimensions["hidden_dim"] is None:
      exact = 8 * dimensions["model_dim"] / 3
      dimensions["hidden_dim"] = 16 * math.ceil(exact / 16)
    super().__init__(
      vocab_size,
      dimensions=dimensions,
      norm=norm,
      activation=activation,
      rope_theta=rope_theta,
      use_bias=use_bias,
      dropout_rate=dropout_rate,
      tied_embeddings=tied_embeddings,
      scaled_embeddings=scaled_embeddings,
      embedding_std=embedding_std,
      max_length=None,
      compute_dtype=compute_dtype,
      rngs=rngs,
      **stack,
    )


class GPT2(_Decoder):
  """Learned positions, GELU, biases and a tied head: Radford et al. 2019."""

  fixes_options: ClassVar[frozenset[str]] = NO_ROTATION

  def __init__(
    self,
    vocab_size: int = 256,
    *,
    size: str = "tiny",
    num_layers: int | None = None,
    num_heads: int | None = None,
    model_dim: int | None = None,
    hidden_dim: int | None = None,
    max_length: int = 1024,
    norm: norms.NormSpec = "layer_norm(eps=1e-5)",
    activation: str = "gelu",
    use_bias: bool = True,
    dropout_rate: float = 0.0,
    tied_embeddings: bool = True,
    scaled_embeddings: bool = False,
    embedding_std: float = _STD,
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
    **stack: Any,
  ):
    """Makes the model; see `Llama` for what is not named here.

    Args:
      vocab_size: v.
      size: one of `GPT2_SIZES`, for the dimensions that are None.
      num_layers: blocks.
      num_heads: query heads.
      model_dim: d.
      hidden_dim: of the feed-forward; where d is given and this is not, 4 d.
      max_length: how many positions there are.
      norm: what is in every norm slot. The default has the eps of the released
        weights; the name "layer_norm" alone has that norm's own, 1e-6.
      activation: see `Stack`; "gelu" is the tanh form of the released weights.
      use_bias: see `Stack`.
      dropout_rate: on the embedding and on each branch's output.
      tied_embeddings: whether the head is the embedding's transpose.
      scaled_embeddings: see `Llama`.
      embedding_std: see `Llama`.
      compute_dtype: see `Llama`.
      rngs: stream "params".
      **stack: the other options of `normjax.nn.stack.Stack`.

    Raises:
      UserError: sizes that do not fit, or an unknown name.
    """
    dimensions = choose_size(
      "gpt2",
      GPT2_SIZES,
      size,
      num_layers=num_layers,
      num_heads=num_heads,
      model_dim=model_dim,
      hidden_dim=hidden_dim,
    )
    if dimensions["hidden_dim"] is None:
      dimensions["hidden_dim"] = 4 * dimensions["model_dim"]
    super().__init__(
      vocab_size,
      dimensions=dimensions,
      norm=norm,
      activation=activation,
      rope_theta=None,
      use_bias=use_bias,
      dropout_rate=dropout_rate,
      tied_embeddings=tied_embeddings,
      scaled_embeddings=scaled_embeddings,
      embedding_std=embedding_std,
      max_length=max_length,
      compute_dtype=compute_dtype,
      rngs=rngs,
      **stack,
    )
