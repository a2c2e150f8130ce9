"""EvoNorm-B0, B1, B2: Liu, Brock, Simonyan, Le 2020, arXiv:2004.02967."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from kernels_pallas import blocks
from normjax import validate
from normjax.norms import affine, base, modes, moments, running
from normjax.types import Array

Variance = Literal["biased", "unbiased"]


def evonorm_b0(
  momentum: float = 0.9,
  eps: float = 1e-5,
  running_variance: Variance = "biased",
  nonlinearity: bool = True,
) -> base.Norm:
  """EvoNorm-B0: norm and activation in one, with variances of batch and image.

      y = x / max(sqrt(var_B + eps), v x + sqrt(var_I + eps)) * scale + bias
      running <- momentum * running + (1 - momentum) * batch

  arXiv:2004.02967. var_B is the variance of a channel over the batch, in
  evaluation the running one, and var_I that of one channel of one image; both
  are biased. `v` is one parameter per channel, 1 at first. No mean is
  subtracted and none runs. The official code asks for networks whose norms
  stand before the convolutions (pre-activation).

  Statistics are float32 (float64 for float64), two passes; under jit over a
  sharded batch var_B is that of the whole batch. Both are of what a mask, of
  images or pixels, leaves.

  Args:
    momentum: weighs the old running value, in [0, 1].
    eps: inside the square roots, > 0: 1e-5 as in the official code; timm's
      B0 has 1e-3.
    running_variance: what enters the running variance: "biased" (the official
      code), or "unbiased", divided by n - 1 (timm).
    nonlinearity: False leaves only the scale and the bias, without statistics
      or `v`: what the official code has where no activation follows, and what
      `without_activation` is.

  Raises:
    UserError: an option out of range; from `apply`, an x that is not images, a
      training batch of one value per channel, or missing statistics.
  """
  return _make(
    "evonorm_b0",
    _init_b0,
    _apply_b0,
    momentum,
    eps,
    running_variance,
    nonlinearity,
  )


def evonorm_b1(
  momentum: float = 0.9,
  eps: float = 1e-5,
  running_variance: Variance = "biased",
  nonlinearity: bool = True,
) -> base.Norm:
  """EvoNorm-B1, which has no `v` and the power of an image's channel.

      y = x / max(sqrt(var_B + eps), (x + 1) sqrt(mean_I(x^2) + eps))
          * scale + bias

  arXiv:2004.02967, as public re-implementations (timm) read it: the official
  code has B0 and S0 only. The rest is as in `evonorm_b0`.

  Args:
    momentum: see `evonorm_b0`.
    eps: inside both square roots, > 0.
    running_variance: see `evonorm_b0`.
    nonlinearity: see `evonorm_b0`.

  Raises:
    UserError: see `evonorm_b0`.
  """
  return _make(
    "evonorm_b1",
    _init,
    _apply_b1,
    momentum,
    eps,
    running_variance,
    nonlinearity,
    # x + 1 has a scale.
    scale_invariant=False,
  )


def evonorm_b2(
  momentum: float = 0.9,
  eps: float = 1e-5,
  running_variance: Variance = "biased",
  nonlinearity: bool = True,
) -> base.Norm:
  """EvoNorm-B2, which has no `v` and the power of an image's channel.

      y = x / max(sqrt(var_B + eps), sqrt(mean_I(x^2) + eps) - x)
          * scale + bias

  arXiv:2004.02967, as public re-implementations (timm) read it: the official
  code has B0 and S0 only. The rest is as in `evonorm_b0`.

  Args:
    momentum: see `evonorm_b0`.
    eps: inside both square roots, > 0.
    running_variance: see `evonorm_b0`.
    nonlinearity: see `evonorm_b0`.

  Raises:
    UserError: see `evonorm_b0`.
  """
  return _make(
    "evonorm_b2",
    _init,
    _apply_b2,
    momentum,
    eps,
    running_variance,
    nonlinearity,
    # sqrt(mean(x^2)) - x cancels as one-pass variances do.
    one_pass=True,
  )


def _make(
  name: str,
  init: Callable[..., Any],
  apply: Callable[..., Any],
  momentum: float,
  eps: float,
  running_variance: str,
  nonlinearity: bool,
  *,
  scale_invariant: bool = True,
  one_pass: bool = False,
) -> base.Norm:
  validate.number(name, "momentum", momentum, least=0, most=1)
  validate.number(name, "eps", eps, above=0)
  validate.flags(name, nonlinearity=nonlinearity)
  validate.choice(
    name, "running_variance", running_variance, ("biased", "unbiased")
  )
  options = {
    "momentum": momentum,
    "eps": eps,
    "running_variance": running_variance,
    "nonlinearity": nonlinearity,
  }
  without = functools.partial(
    affine.only, name, {**options, "nonlinearity": False}
  )
  if not nonlinearity:
    return without()
  return base.Norm(
    name=name,
    options=options,
    traits=base.NormTraits(
      statistics="batch",
      scale_invariant=scale_invariant,
      needs_train_flag=True,
      blends=True,
      spatial_only=True,
      mixes_positions=True,
      contains_activation=True,
      one_pass=one_pass,
    ),
    init_fn=init,
    apply_fn=apply,
    without_activation_fn=without,
  )


def _init(shape, dtype, **_: Any):
  return {
    "params": affine.init(shape, dtype),
    "stats": running.start(shape, dtype, var=1),
  }


def _init_b0(shape, dtype, **options: Any):
  made = _init(shape, dtype, **options)
  made["params"]["v"] = jnp.ones(shape[-1:], dtype)
  return made


class _Divisor(NamedTuple):
  """max(spread, slope x + root) is what x is divided by."""

  # Whether the root is that of an image's variance, or of its mean square.
  centered: bool
  # (parameters, root (b, 1, 1, c)) -> slope, which broadcasts against root.
  slope: Callable[[Mapping[str, Array], Array], Array]


_DIVISORS = {
  "evonorm_b0": _Divisor(True, lambda params, root: params["v"]),
  "evonorm_b1": _Divisor(False, lambda params, root: root),
  "evonorm_b2": _Divisor(False, lambda params, root: -jnp.ones_like(root)),
}


class _Statistics(NamedTuple):
  """What enters the divisor, and the centers that its gradient goes around."""

  center: Array  # (b, 1, 1, c): mean of an image's channel, or 0.
  root: Array  # (b, 1, 1, c)
  mean: Array  # (c,): of the batch.
  spread: Array  # (c,)


def _apply(
  name: str,
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  momentum: float,
  eps: float,
  running_variance: str,
  **_: Any,
):
  stats, params = variables["stats"], variables["params"]
  base.check_images(name, x)
  base.check_variables(name, variables, "stats", ("var",))
  base.check_features(name, x, stats["var"].size)
  wide = moments.promote(x)
  by_variance = functools.partial(_by_variance, name, wide, params, eps, mask)
  if mode.statistics == "running":
    return by_variance(stats["var"]).astype(x.dtype), stats
  if mode.statistics == "batch" and mask is None:
    base.check_batch(name, x)
    batch, statistics = _measure(name, lax.stop_gradient(wide), eps)
    y = cast(Array, _normalize(name, eps, x, params, statistics))
  else:
    batch = running.measure(name, wide, mask)
    variance = batch.variance
    if mode.statistics == "blended":
      new = {"var": batch.kept(running_variance)}
      variance = running.blend(stats, new, mode, batch.size)["var"]
    y = by_variance(variance).astype(x.dtype)
  new = {"var": batch.kept(running_variance)}
  return y, running.advance(stats, new, momentum, batch.size)


def _root(
  name: str, mean: Array, variance: Array, eps: float
) -> tuple[Array, Array]:
  """Center and root of each channel of each image, of its moments."""
  if _DIVISORS[name].centered:
    return mean, jnp.sqrt(variance + eps)
  return jnp.zeros_like(mean), jnp.sqrt(variance + jnp.square(mean) + eps)


def _quotient(
  name: str, x: Array, params: Mapping[str, Array], root: Array, spread: Array
) -> Array:
  slope = _DIVISORS[name].slope(params, root).astype(x.dtype)
  return x / jnp.maximum(spread, slope * x + root)


def _by_variance(
  name: str,
  x: Array,
  params: Mapping[str, Array],
  eps: float,
  mask: Array | None,
  variance: Array,
) -> Array:
  """By a variance of the batch that is given, in the dtype of x."""
  spread = jnp.sqrt(variance.astype(x.dtype) + eps)
  if mask is not None:
    mask = moments.broadcast_mask(mask, x)
  _, root = _root(name, *moments.mean_and_variance(x, (1, 2), mask), eps)
  return affine.apply(_quotient(name, x, params, root, spread), params)


def _measure(
  name: str, x: Array, eps: float
) -> tuple[running.Batch, _Statistics]:
  """Of the images, and of the batch by those of its images."""
  batch, images = running.measure_images(x)
  center, root = _root(name, images.mean, images.variance, eps)
  spread = jnp.sqrt(batch.variance + eps)
  return batch, _Statistics(center, root, batch.mean, spread)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _normalize(
  name: str,
  eps: float,
  x: Array,
  params: Mapping[str, Array],
  statistics: _Statistics,
) -> Array:
  """The norm; its gradient is that through the statistics too."""
  del eps
  return _scaled(name, x, params, statistics)


def _scaled(
  name: str, x: Array, params: Mapping[str, Array], statistics: _Statistics
) -> Array:
  normalized = _quotient(
    name, moments.promote(x), params, statistics.root, statistics.spread
  )
  return affine.apply(normalized, params).astype(x.dtype)


def _normalize_forward(name, eps, x, params, statistics):
  statistics = moments.known(
    lambda x: _measure(name, moments.promote(x), eps)[1], x, statistics
  )
  return _scaled(name, x, params, statistics), (x, params, statistics)


def _normalize_backward(name, eps, residuals, dy):
  """With n = x / divisor, and w = dy n / divisor where that is the image's:

      droot = -scale sum_I(w), dslope = -scale sum_I(w x),
      dspread = -scale sum_B(dy n / divisor - w)

  and the derivatives of the two variances are 2 (x - mean) / n each. Every sum
  reads x and dy anew: what they have in common is never written.
  """
  del eps
  x, params, (center, root, mean, spread) = blocks.unfused(
    residuals[0], residuals
  )
  slope, pull = jax.vjp(
    # A sum, not `broadcast_to`: it is sharded as the root is.
    lambda params, root: (
      _DIVISORS[name].slope(params, root).astype(root.dtype)
      + jnp.zeros_like(root)
    ),
    params,
    root,
  )
  scale = params["scale"].astype(root.dtype)

  def parts(x, dy, root, slope):
    x, dy = moments.promote(x), moments.promote(dy)
    own = slope * x + root
    # As jnp.maximum: a half each where both are equal.
    share = 0.5 * (own > spread) + 0.5 * (own >= spread)
    return x, dy, share.astype(root.dtype), 1 / jnp.maximum(own, spread)

  def sums(*arrays):
    x, dy, share, reciprocal = parts(*arrays)
    product = dy * x * reciprocal
    weight = product * reciprocal
    own = share * weight
    return [
      jnp.sum(term, (1, 2), keepdims=True)
      for term in (product, dy, own, own * x, weight - own)
    ]

  dscale, dbias, droot, dslope, dspread = blocks.by_image(
    sums, x, dy, root, slope
  )
  droot, dslope, dspread = (-scale * d for d in (droot, dslope, dspread))
  gradients, more = pull(dslope)
  # d sqrt(variance + eps) / dx = (x - mean) / (n sqrt(variance + eps)).
  by_image = (droot + more) / (root * math.prod(x.shape[1:3]))
  by_batch = jnp.sum(dspread, (0, 1, 2)) / (spread * math.prod(x.shape[:3]))
  by_image, by_batch = blocks.unfused(x, (by_image, by_batch))
  wide, cotangent, share, reciprocal = parts(x, dy, root, slope)
  dx = scale * cotangent * reciprocal
  dx *= 1 - share * slope * wide * reciprocal
  dx += by_image * (wide - center) + by_batch * (wide - mean)
  gradients = {
    **gradients,
    "scale": jnp.sum(dscale, (0, 1, 2)).astype(params["scale"].dtype),
    "bias": jnp.sum(dbias, (0, 1, 2)).astype(params["bias"].dtype),
  }
  return dx.astype(x.dtype), gradients, None


_normalize.defvjp(_normalize_forward, _normalize_backward)


# Once: norms that are made twice are equal.
_apply_b0, _apply_b1, _apply_b2 = (
  functools.partial(_apply, name)
  for name in ("evonorm_b0", "evonorm_b1", "evonorm_b2")
)
