"""Adaptive instance normalization: Huang, Belongie 2017, arXiv:1703.06868."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from kernels_pallas import blocks
from normjax import errors, validate
from normjax.norms import base, moments
from normjax.types import Array


class Style(NamedTuple):
  """What `adain` gives an image: the `context` of its `apply`."""

  mean: Array  # (b, c), or (c,) for one style.
  std: Array  # The same shape.


def adain(
  style_weight: float = 1.0,
  content_weight: float = 0.0,
  eps: float = 1e-5,
  eps_placement: Literal["inside", "outside"] = "inside",
  variance: Literal["biased", "unbiased"] = "biased",
) -> base.Norm:
  """Adaptive instance normalization: an image takes the moments of a style.

      y = (x - mean) / sqrt(var + eps) * (a_s style.std + a_c std)
          + a_s style.mean + a_c mean

  arXiv:1703.06868, equation 8, with a_s = style_weight = 1 and a_c =
  content_weight = 0; mean, var and std are those of one channel of one image.
  There are no parameters. The style is the `context`: a `Style`, or another
  pair of mean and standard deviation, as `style_of` makes them. Without a
  context it has mean 0 and standard deviation 1, which is an instance norm.

  AttenST's content-aware form has style_weight=0.6, content_weight=0.4,
  eps=1e-4, eps_placement="outside", variance="unbiased": `stylize` is it. Its
  weights need not sum to 1; with a_s = 0 and a_c = 1 y is x, up to eps.

  Statistics are float32 (float64 for float64), two passes, of the pixels that
  a mask leaves. Without a mask the first derivative is in reverse mode, the
  second in any.

  Args:
    style_weight: a_s.
    content_weight: a_c.
    eps: > 0; in the division by the content's deviation only.
    eps_placement: "inside" the square root, or "outside": sqrt(var) + eps.
    variance: the content's, "biased" (the official code) or "unbiased",
      divided by n - 1.

  Raises:
    UserError: an option out of range; from `apply`, an x that is not images, a
      context that does not fit it, or an unbiased variance of one pixel.
  """
  validate.number("adain", "style_weight", style_weight)
  validate.number("adain", "content_weight", content_weight)
  validate.number("adain", "eps", eps, above=0)
  validate.choice(
    "adain", "eps_placement", eps_placement, tuple(moments.RECIPROCAL_ROOT)
  )
  validate.choice("adain", "variance", variance, ("biased", "unbiased"))
  return base.Norm(
    name="adain",
    options={
      "style_weight": style_weight,
      "content_weight": content_weight,
      "eps": eps,
      "eps_placement": eps_placement,
      "variance": variance,
    },
    traits=base.NormTraits(
      statistics="per_example",
      scale_invariant=content_weight == 0,
      shift_invariant=content_weight == 0,
      spatial_only=True,
      mixes_positions=True,
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def style_of(
  x: Array,
  variance: Literal["biased", "unbiased"] = "unbiased",
  mask: Array | None = None,
) -> Style:
  """The moments of each channel of each image, (b, c), without eps.

  Args:
    x: images (b, y, x, c).
    variance: "unbiased", as in the official code, or "biased".
    mask: true at the pixels that count, (b, y) or (b, y, x); None for all.

  Raises:
    UserError: an x that is not images, or an unbiased variance of one pixel.
  """
  base.check_images("adain", x)
  validate.choice("adain", "variance", variance, ("biased", "unbiased"))
  if mask is not None:
    x = base.hide(x, mask)
  mean, square = _moments(moments.promote(x), variance, mask)
  return Style(mean[:, 0, 0], moments.root(square)[:, 0, 0])


def stylize(
  content: Array,
  style: Array,
  *,
  style_weight: float = 0.6,
  content_weight: float = 0.4,
  eps: float = 1e-4,
) -> Array:
  """Content-aware AdaIN of latents: AttenST, arXiv:2503.07307.

      z = (z_c - mean_c) / (std_c + eps) * (a_s std_s + a_c std_c)
          + a_s mean_s + a_c mean_c

  Mean and unbiased deviation are those of each channel of each latent, over its
  positions; the defaults are those of the official code, HuanBor/AttenST, which
  has no licence: equations alone are taken, from a copy of it. There it is
  applied once, to the latents of a diffusion model at the end of the inversion.
  Any features (b, y, x, c) will do. The weights need not sum to 1: where they
  do, the moments go that far from the content's to the style's.

  Args:
    content: (b, y, x, c).
    style: (b, y, x, c), or (1, y, x, c) for all; of any height and width.
    style_weight: a_s.
    content_weight: a_c.
    eps: > 0.

  Raises:
    UserError: an option out of range; latents that are not (b, y, x, c), have
      one position, or do not fit together.
  """
  norm = adain(style_weight, content_weight, eps, "outside", "unbiased")
  base.check_images("adain", content)
  moments_of_style = style_of(style)
  sizes = (len(style), style.shape[-1])
  if sizes not in ((len(content), content.shape[-1]), (1, content.shape[-1])):
    raise errors.UserError(
      f"adain: a style of shape {style.shape} for content of shape"
      f" {content.shape}; needed: as many channels, and as many latents or one."
    )
  if len(style) == 1:
    moments_of_style = Style(*(each[0] for each in moments_of_style))
  return norm.apply({}, content, context=moments_of_style)[0]


def _init(shape, dtype, **_: Any):
  del shape, dtype
  return {}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mask: Array | None,
  context: Any,
  style_weight: float,
  content_weight: float,
  eps: float,
  eps_placement: str,
  variance: str,
  **_: Any,
):
  base.check_images("adain", x)
  wide = moments.promote(x)
  style_mean, style_std = _style(context, wide)
  mean, square = _moments(wide, variance, mask)
  r = moments.RECIPROCAL_ROOT[eps_placement](square, eps)
  mean, r = blocks.unfused(x, (mean, r))
  normalized = (wide - mean) * r
  std, offset = style_weight * style_std, style_weight * style_mean
  if content_weight:
    std = std + content_weight * moments.root(square)
    offset = offset + content_weight * mean
  return (normalized * std + offset).astype(x.dtype), variables["stats"]


def _moments(
  x: Array, variance: str, mask: Array | None
) -> tuple[Array, Array]:
  """Mean and variance of each channel of each image, (b, 1, 1, c)."""
  if mask is None:
    mean, square = moments.image_moments(x)
  else:
    mask = moments.broadcast_mask(mask, x)
    mean, square = moments.mean_and_variance(x, (1, 2), mask)
  if variance == "biased":
    return mean, square
  base.check_pixels("adain", x)
  pixels = moments.count(x, (1, 2), mask)
  return mean, square * (pixels / jnp.maximum(pixels - 1, 1))


def _style(context: Any, x: Array) -> tuple[Array, Array]:
  """Mean and deviation of the style, which broadcast against x."""
  if context is None:
    return jnp.zeros((), x.dtype), jnp.ones((), x.dtype)
  try:
    mean, std = (jnp.asarray(value).astype(x.dtype) for value in context)
  except (TypeError, ValueError) as error:
    raise errors.UserError(
      "adain: the context is a pair of the style's mean and standard"
      f" deviation, as style_of makes it; got a {type(context).__name__}."
    ) from error
  allowed = ((x.shape[0], x.shape[3]), (x.shape[3],))
  if mean.shape not in allowed or std.shape != mean.shape:
    raise errors.UserError(
      "adain: mean and standard deviation of the style have the shape"
      f" {allowed[0]} or {allowed[1]} for x of shape {x.shape}; got"
      f" {mean.shape} and {std.shape}."
    )
  shape = (-1, 1, 1, x.shape[3])
  return mean.reshape(shape), std.reshape(shape)
