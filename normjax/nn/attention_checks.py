"""What `Attention` refuses, with what to change."""

from typing import Any

import jax.numpy as jnp

from normjax import errors, norms, validate
from normjax.nn import mixing, rotary_scaling
from normjax.types import Array


def resolve_norm(spec: norms.NormSpec) -> norms.Norm:
  """A norm that acts on tokens.

  Raises:
    UserError: a norm of images or of a whole sequence, or what `norms.resolve`
      raises.
  """
  norm = norms.resolve(spec)
  if norm.traits.spatial_only:
    raise errors.UserError(
      f"norm {norm.name!r} is for images; attention has tokens, which take"
      " any other."
    )
  if norm.traits.mixes_positions:
    raise errors.UserError(
      f"norm {norm.name!r} mixes the positions of a sequence; the norms inside"
      " attention act on single tokens, as 'rms_norm' and 'layer_norm' do."
    )
  return norm


def check(
  method: mixing.Mixing,
  *,
  model_dim: int,
  num_heads: int,
  num_kv_heads: int,
  head_dim: int | None,
  causal: bool,
  rope_theta: float | None,
  rotary_dim: int | None,
  rope_scaling: str | rotary_scaling.RotaryScaling,
  use_bias: bool | str,
  query_key_norm: norms.NormSpec | None,
  query_key_norm_axes: str,
  query_key_norm_after_rotation: bool,
  learned_temperature: bool,
  logit_scale: float | None,
  logit_cap: float | None,
  output_gate: str | None,
) -> None:
  """Checks the options of `Attention` and against the method's traits.

  Raises:
    UserError: the message names the option, its value and what is allowed.
  """
  if rope_theta is not None:
    validate.positive("attention", rope_theta=rope_theta)
  pairs = rope_theta is not None and rotary_dim is None
  _check_sizes(model_dim, num_heads, num_kv_heads, head_dim, pairs)
  size = model_dim // num_heads if head_dim is None else head_dim
  _check_rotation(method, size, rope_theta, rotary_dim, rope_scaling)
  validate.choice(
    "attention", "use_bias", use_bias, (False, True, "query_key_value")
  )
  validate.choice(
    "attention",
    "query_key_norm_axes",
    query_key_norm_axes,
    ("head", "joint"),
  )
  validate.choice(
    "attention",
    "output_gate",
    output_gate,
    (None, "elementwise", "headwise"),
  )
  for option, value in (("logit_scale", logit_scale), ("logit_cap", logit_cap)):
    if value is not None:
      validate.positive("attention", **{option: value})
  if query_key_norm is None and (
    query_key_norm_after_rotation or query_key_norm_axes != "head"
  ):
    raise errors.UserError(
      "query_key_norm_axes and query_key_norm_after_rotation say where a norm"
      " is, and query_key_norm=None is none; give it a norm's name."
    )
  method.check_direction(causal)
  _check_traits(
    method,
    num_heads=num_heads,
    num_kv_heads=num_kv_heads,
    rope_theta=rope_theta,
    after_rotation=query_key_norm_after_rotation,
    logit_options={
      "learned_temperature": learned_temperature or None,
      "logit_scale": logit_scale,
      "logit_cap": logit_cap,
    },
  )


def _check_sizes(
  model_dim: int,
  num_heads: int,
  num_kv_heads: int,
  head_dim: int | None,
  pairs: bool,
) -> None:
  """Checks what divides what; `pairs`: whether all of a head rotates."""
  validate.counts(
    "attention",
    model_dim=model_dim,
    num_heads=num_heads,
    num_kv_heads=num_kv_heads,
  )
  halves, part = (2, "half of ") if pairs else (1, "")
  why = ", since rope_theta rotates pairs" if pairs else ""
  if head_dim is not None:
    validate.counts("attention", head_dim=head_dim)
    if head_dim % halves:
      validate.refuse("attention", "head_dim", head_dim, f"an even number{why}")
  elif model_dim % (halves * num_heads):
    validate.refuse(
      "attention",
      "num_heads",
      num_heads,
      f"a divisor of {part}model_dim={model_dim}{why}",
    )
  if num_heads % num_kv_heads:
    validate.refuse(
      "attention",
      "num_kv_heads",
      num_kv_heads,
      f"a divisor of num_heads={num_heads}",
    )


def _check_rotation(
  method: mixing.Mixing,
  size: int,
  rope_theta: float | None,
  rotary_dim: int | None,
  rope_scaling: str | rotary_scaling.RotaryScaling,
) -> None:
  """Checks how heads of this size rotate."""
  scaling = rotary_scaling.resolve(rope_scaling).name
  if rope_theta is None:
    given = {
      "rotary_dim": rotary_dim,
      "rope_scaling": None if scaling == "none" else rope_scaling,
    }
    for option, value in given.items():
      if value is not None:
        raise errors.UserError(
          f"{option}={value!r} is about a rotation, and rope_theta=None is"
          f" none; give it a base, or leave {option} out."
        )
    return
  if rotary_dim is None:
    return
  validate.counts("attention", rotary_dim=rotary_dim)
  if rotary_dim % 2 or rotary_dim > size:
    validate.refuse(
      "attention",
      "rotary_dim",
      rotary_dim,
      f"an even number up to the {size} features of a head",
    )
  if method.traits.rotation == "features":
    raise errors.UserError(
      f"mixing {method.name!r} rotates features of its own, all of them;"
      f" rotary_dim={rotary_dim} must be None."
    )


def _check_traits(
  method: mixing.Mixing,
  *,
  num_heads: int,
  num_kv_heads: int,
  rope_theta: float | None,
  after_rotation: bool,
  logit_options: dict[str, Any],
) -> None:
  name, traits = method.name, method.traits
  if not traits.grouped_queries and num_kv_heads != num_heads:
    raise errors.UserError(
      f"mixing {name!r} has no grouped queries: num_kv_heads={num_kv_heads}"
      f" must be num_heads={num_heads}."
    )
  if traits.rotation == "none" and rope_theta is not None:
    raise errors.UserError(
      f"mixing {name!r} takes no rotation; rope_theta={rope_theta} must be"
      " None."
    )
  if traits.rotation == "features" and after_rotation:
    raise errors.UserError(
      f"mixing {name!r} rotates its own features, after any norm;"
      " query_key_norm_after_rotation must be False."
    )
  for option, value in logit_options.items():
    if value is not None and not traits.logits:
      raise errors.UserError(
        f"mixing {name!r} has no scores for {option}={value!r} to act on;"
        " 'softmax', 'softmax_off_by_one' and 'softmax_sink' have."
      )


def check_mask(shape: tuple[int, ...], mask_bt: Array | None) -> None:
  """Raises UserError unless there is one mask entry per token.

  Args:
    shape: begins with (b, t).
    mask_bt: None: all tokens are real.
  """
  if mask_bt is not None and jnp.shape(mask_bt) != shape[:2]:
    raise errors.UserError(
      f"mask_bt has one entry per token, shape {shape[:2]};"
      f" got {jnp.shape(mask_bt)}."
    )
