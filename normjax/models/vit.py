"""Vision transformers: Dosovitskiy et al. 2020, arXiv:2010.11929."""

from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx

from normjax import errors, norms, validate
from normjax.models.transformer import NO_ROTATION, choose_size
from normjax.nn import checks, roles, shifted
from normjax.nn.dropout import dropout, split
from normjax.nn.output import Output
from normjax.nn.stack import Stack
from normjax.norms import modes
from normjax.similarity import heads
from normjax.types import Array

_NORMAL = nnx.initializers.normal(0.02)


def _size(layers: int, heads: int, model: int):
  return {
    "num_layers": layers,
    "num_heads": heads,
    "model_dim": model,
    "hidden_dim": 4 * model,
  }


# Tiny and small are DeiT's (Touvron et al. 2020, arXiv:2012.12877, table 1).
SIZES = {
  "mini": _size(2, 4, 64),
  "tiny": _size(12, 3, 192),
  "small": _size(12, 6, 384),
  "base": _size(12, 12, 768),
}


class ViT(Stack):
  """Patches, learned positions, blocks that see every patch, and a head."""

  reads: ClassVar[frozenset[str]] = frozenset({"images"})
  hands_options_to: ClassVar[tuple[type, ...]] = (Stack,)
  fixes_options: ClassVar[frozenset[str]] = NO_ROTATION
  parameter_roles: ClassVar[roles.Declared] = {
    "patch_conv/kernel": roles.conv("channels", "embed"),
    "patch_conv/bias": roles.bias("embed"),
    "class_token": roles.token("embed"),
    "position_embedding": roles.positions("length", "embed"),
    "head/kernel": roles.kernel("embed", "classes"),
    "head/bias": roles.bias("classes"),
  }
  end_layers: ClassVar[roles.Ends] = roles.Ends("patch_conv", "head")
  draws_for: ClassVar[tuple[str, ...]] = ("layers", "head")  # `nn.shifted`.

  def __init__(
    self,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    *,
    size: str = "mini",
    num_layers: int | None = None,
    num_heads: int | None = None,
    model_dim: int | None = None,
    hidden_dim: int | None = None,
    patch_size: int = 4,
    pooling: str = "class_token",
    has_class_token: bool | None = None,
    norm_after_pooling: bool = False,
    head: heads.HeadSpec = "linear",
    norm: norms.NormSpec = "layer_norm",
    activation: str = "gelu",
    use_bias: bool = True,
    dropout_rate: float = 0.0,
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
    **stack: Any,
  ):
    """Makes the model.

    Args:
      num_classes: outputs.
      input_shape: (height, width, channels) of one image.
      size: one of `SIZES`, for the dimensions that are None.
      num_layers: blocks.
      num_heads: of the attention.
      model_dim: d.
      hidden_dim: of the feed-forward; where d is given and this is not, 4 d.
      patch_size: side of a patch; divides height and width.
      pooling: what the head reads: "class_token" or the "mean" of the patches.
      has_class_token: whether there is a class token; None: where the pooling
        reads it. With "mean", blocks see it and the mean does not.
      norm_after_pooling: whether the final norm is of what the pooling gives
        (timm's `fc_norm`), or of each token before it.
      head: the last layer, by name, see `similarity.heads`.
      norm: what is in every norm slot.
      activation: see `Stack`. "gelu" is the tanh form, as in the official code;
        PyTorch's ports have "gelu_exact".
      use_bias: see `Stack`.
      dropout_rate: on the embedding and on each branch's output.
      compute_dtype: "float32" or "bfloat16"; parameters, statistics and
        logits are float32 either way.
      rngs: stream "params".
      **stack: the other options of `normjax.nn.stack.Stack`.

    Raises:
      UserError: sizes that do not fit, or an unknown name.
    """
    dimensions = choose_size(
      "vit",
      SIZES,
      size,
      num_layers=num_layers,
      num_heads=num_heads,
      model_dim=model_dim,
      hidden_dim=hidden_dim,
    )
    if dimensions["hidden_dim"] is None:
      dimensions["hidden_dim"] = 4 * dimensions["model_dim"]
    validate.counts(
      "vit", num_classes=num_classes, patch_size=patch_size, **dimensions
    )
    validate.rates("vit", dropout_rate=dropout_rate)
    if len(input_shape) != 3:
      raise errors.UserError(
        f"input_shape={tuple(input_shape)} must be (height, width, channels)."
      )
    checks.check_input_shape(input_shape)
    height, width, channels = input_shape
    if height % patch_size or width % patch_size:
      raise errors.UserError(
        f"patch_size={patch_size} must divide height and width of"
        f" input_shape={tuple(input_shape)}."
      )
    if pooling not in ("class_token", "mean"):
      raise errors.UserError(
        f"pooling={pooling!r}; allowed: 'class_token', 'mean'."
      )
    reads_token = pooling == "class_token"
    if has_class_token is None:
      has_class_token = reads_token
    validate.flags(
      "vit",
      has_class_token=has_class_token,
      norm_after_pooling=norm_after_pooling,
    )
    if reads_token and not has_class_token:
      raise errors.UserError(
        "has_class_token=False leaves nothing to read for"
        " pooling='class_token'; allowed: True, or pooling='mean'."
      )
    dtype = checks.compute_dtype(compute_dtype)
    d = dimensions["model_dim"]
    self.dropout_rate, self.pooling = dropout_rate, pooling
    self.has_class_token = has_class_token
    self.norm_after_pooling = norm_after_pooling
    self.input_shape = tuple(input_shape)
    self.patch_conv = nnx.Conv(
      channels,
      d,
      (patch_size, patch_size),
      strides=patch_size,
      padding="VALID",
      kernel_init=nnx.initializers.lecun_normal(),
      dtype=dtype,
      rngs=rngs,
    )
    length = (height // patch_size) * (width // patch_size)
    if has_class_token:
      length += 1
      self.class_token = nnx.Param(_NORMAL(rngs.params(), (d,), jnp.float32))
    self.position_embedding = nnx.Param(
      _NORMAL(rngs.params(), (length, d), jnp.float32)
    )
    super().__init__(
      **dimensions,
      causal=False,
      rope_theta=None,
      norm=norm,
      activation=activation,
      use_bias=use_bias,
      dropout_rate=dropout_rate,
      dtype=dtype,
      rngs=rngs,
      **stack,
    )
    if norm_after_pooling and "final" not in self.ends:
      raise errors.UserError(
        "norm_after_pooling=True moves the final norm, and there is none;"
        " allowed: False, or a norm in the slot 'final'."
      )
    self.head = heads.layer(
      head,
      d,
      num_classes,
      kernel_init=self.head_init,
      dtype=dtype,
      rngs=rngs,
    )

  def __call__(
    self,
    images_byxc: Array,
    *,
    train: modes.Train = None,
    key: Array | None = None,
  ) -> Array | Output:
    """Class logits.

    Args:
      images_byxc: standardized, any float dtype.
      train: of the norms, and whether dropout is on; see `NormLayer`.
      key: of dropout; needed where there is some in training.

    Returns:
      (b, classes), float32; an `Output` where the head has embeddings.

    Raises:
      UserError: images of another shape, or dropout in training without a key.
    """
    checks.check_examples(images_byxc, self.input_shape)
    keys = split(key, 2, self.dropout_rate, self.drop_path_rate)
    own_key = self.noise_key(train, keys[0], dropout_rate=self.dropout_rate)
    patches = self.patch_conv(images_byxc)
    b, *_, d = patches.shape
    x_btd = patches.reshape(b, -1, d)
    if self.has_class_token:
      token = jnp.broadcast_to(self.class_token[...], (b, 1, d))
      x_btd = jnp.concatenate([token.astype(x_btd.dtype), x_btd], axis=1)
    x_btd += self.position_embedding[...].astype(x_btd.dtype)
    x_btd = dropout(x_btd, self.dropout_rate, own_key)
    after = self.norm_after_pooling
    x_btd = self.run(x_btd, train=train, key=keys[1], final_norm=not after)
    if self.pooling == "class_token":
      x_bd = x_btd[:, 0]
    else:
      x_bd = jnp.mean(x_btd[:, int(self.has_class_token) :], axis=1)
    if after:
      x_bd = self.normalize_end("final", x_bd, train=train)
    return self.head(shifted.draw_after(self.head, x_bd))
