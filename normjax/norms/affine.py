"""The learned gain and offset that follow most norms, one per channel."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from normjax import errors, validate
from normjax.norms import base, magnitude, moments
from normjax.types import Array

NAMES = ("scale", "magnitude", "direction", "bias")
# The options that say of a norm that it has neither.
_NONE = {
  "use_scale": False,
  "use_bias": False,
  "zero_centered": False,
  "scale_form": "plain",
}


def init(
  shape: tuple[int, ...],
  dtype: DTypeLike,
  use_scale: bool = True,
  use_bias: bool = True,
  zero_centered: bool = False,
  scale_form: str = "plain",
) -> dict[str, Array]:
  """`scale` of gain 1 and `bias` of zeros, for the last axis of `shape`.

  Args:
    shape: the feature shape.
    dtype: of the parameters.
    use_scale: whether there is a `scale`.
    use_bias: whether there is a `bias`.
    zero_centered: `scale` holds the gain less 1; see `gains`.
    scale_form: "plain", or "magnitude_direction": what `magnitude.init` makes
      in place of `scale`.
  """
  start = jnp.full(shape[-1:], 0 if zero_centered else 1, dtype)
  scale = {"scale": start} if use_scale else {}
  if use_scale and scale_form == "magnitude_direction":
    scale = magnitude.init(shape[-1], dtype)
  bias = {"bias": jnp.zeros(shape[-1:], dtype)} if use_bias else {}
  return scale | bias


def check_options(
  norm: str, use_scale: bool, zero_centered: bool, scale_form: str
) -> None:
  """Raises UserError where something is asked of a scale that is not there.

  And where an option is none of its values.
  """
  validate.flags(norm, use_scale=use_scale, zero_centered=zero_centered)
  validate.choice(norm, "scale_form", scale_form, magnitude.FORMS)
  if scale_form != "plain" and (zero_centered or not use_scale):
    raise errors.UserError(
      f"{norm}: scale_form={scale_form!r} needs use_scale=True and"
      f" zero_centered=False; got use_scale={use_scale!r} and"
      f" zero_centered={zero_centered!r}."
    )
  if zero_centered and not use_scale:
    raise errors.UserError(
      f"{norm}: zero_centered=True is about the scale, and use_scale=False"
      " leaves it out; drop one of the two."
    )


def check(norm: str, x: Array, params: Mapping[str, Array]) -> None:
  """Raises UserError unless x has as many channels as the parameters."""
  for name in ("scale", "direction", "bias"):
    if name in params:
      base.check_features(norm, x, params[name].size)


def gains(
  params: Mapping[str, Array], zero_centered: bool
) -> Mapping[str, Array]:
  """`params` with the gain as `scale`, whatever its form.

  That is 1 + scale where it is zero-centred. The sum is in float32 at least:
  near 1 a bfloat16 scale would lose its bits.
  """
  if "direction" in params:
    return {**params, "scale": magnitude.gain(params)}
  if not zero_centered or "scale" not in params:
    return params
  return {**params, "scale": 1 + moments.promote(params["scale"])}


def taken_from(
  norm: base.Norm, params: Mapping[str, Array]
) -> tuple[base.Norm, dict[str, Array], Array | None, Array | None]:
  """A norm without its gain and offset, and these.

      norm(x) = rest(x) * gain + offset

  Args:
    norm: with the trait `affine_last`.
    params: its parameters.

  Returns:
    The rest, the parameters that it keeps, gain and offset, (d,) each, float32
    at least; None for what the norm does not have.

  Raises:
    UserError: a norm without the trait.
  """
  if not norm.traits.affine_last:
    raise errors.UserError(
      f"the gain and offset of {norm.name!r} are not the last thing that it"
      " does, so that nothing after it can take them over."
    )
  found = gains(params, norm.options.get("zero_centered", False))
  gain, offset = (
    moments.promote(found[name]) if name in found else None
    for name in ("scale", "bias")
  )
  options = dict(norm.options)
  options |= {key: value for key, value in _NONE.items() if key in options}
  kept = {k: v for k, v in params.items() if k not in NAMES}
  return dataclasses.replace(norm, options=options), kept, gain, offset


def apply(x: Array, params: Mapping[str, Array]) -> Array:
  """Returns x * scale + bias in the dtype of x, each where `params` has it."""
  if "scale" in params:
    x = x * params["scale"].astype(x.dtype)
  if "bias" in params:
    x = x + params["bias"].astype(x.dtype)
  return x


def of_standardized(
  x: Array, params: Mapping[str, Array], mean: Array, r: Array
) -> Array:
  """(x - mean) r * scale + bias in x's dtype, computed in float32 at least."""
  return apply((moments.promote(x) - mean) * r, params).astype(x.dtype)


def only(name: str, options: Mapping[str, Any]) -> base.Norm:
  """The norm that is its scale and bias: y = x * scale + bias.

  What EvoNorms and their like are where the network has no activation.

  Args:
    name: of the norm whose place it takes.
    options: that norm's; kept, and not read.
  """
  return base.Norm(
    name=name,
    options=options,
    traits=base.NormTraits(statistics="none", foldable=True),
    init_fn=_init_only,
    apply_fn=_apply_only,
  )


def _init_only(shape, dtype, **_: Any):
  return {"params": init(shape, dtype)}


def _apply_only(variables: base.Variables, x: Array, **_: Any):
  check("a norm without its activation", x, variables["params"])
  y = apply(moments.promote(x), variables["params"])
  return y.astype(x.dtype), variables["stats"]
