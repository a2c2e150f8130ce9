"""Filter response normalization: Singh, Krishnan 2019, arXiv:1911.09737."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from normjax import validate
from normjax.norms import affine, base, channel_groups, moments, recompute
from normjax.types import Array


def frn(
  eps: float = 1e-6,
  learned_eps: bool = False,
  learned_eps_init: float = 1e-4,
  tlu: bool = True,
) -> base.Norm:
  """Filter response normalization with its thresholded linear unit.

      y = max(x / sqrt(mean(x^2) + eps + |eps_l|) * scale + bias, tau)

  arXiv:1911.09737. The mean is over the pixels of one channel of one image,
  those that a mask leaves; no mean is subtracted. Sequences (b, t, c) are
  images of one column. The unit is the layer's activation, with one threshold
  `tau` per channel, 0 at first: as a ReLU. Statistics are float32 (float64 for
  float64).

  Args:
    eps: inside the square root, > 0.
    learned_eps: adds |eps_l| of the parameter `eps_l`, one number per layer,
      which public re-implementations give to maps of one pixel; there x /
      sqrt(x^2 + eps) would be a sign.
    learned_eps_init: the first eps_l, >= 0.
    tlu: False leaves out the thresholds, and y is the norm alone, which
      still normalises; so does `without_activation`.

  Raises:
    UserError: an option out of range; from `apply`, an x that is neither
      images nor sequences.
  """
  validate.number("frn", "eps", eps, above=0)
  validate.flags("frn", learned_eps=learned_eps, tlu=tlu)
  validate.number("frn", "learned_eps_init", learned_eps_init, least=0)
  return base.Norm(
    name="frn",
    options={
      "eps": eps,
      "learned_eps": learned_eps,
      "learned_eps_init": learned_eps_init,
      "tlu": tlu,
    },
    traits=base.NormTraits(
      statistics="per_example",
      # What eps_l may grow to is no rounding.
      scale_invariant=not learned_eps,
      mixes_positions=True,
      contains_activation=tlu,
    ),
    init_fn=_init,
    apply_fn=_apply,
    without_activation_fn=functools.partial(
      frn, eps, learned_eps, learned_eps_init, tlu=False
    ),
  )


def _init(
  shape,
  dtype,
  *,
  learned_eps: bool,
  learned_eps_init: float,
  tlu: bool,
  **_: Any,
):
  params = affine.init(shape, dtype)
  if learned_eps:
    params["eps_l"] = jnp.asarray(learned_eps_init, dtype)
  if tlu:
    params["tau"] = jnp.zeros(shape[-1:], dtype)
  return {"params": params}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mask: Array | None,
  eps: float,
  **_: Any,
):
  base.check_positions("frn", x)
  params = variables["params"]
  affine.check("frn", x, params)
  if mask is not None:
    mask = channel_groups.as_images(moments.broadcast_mask(mask, x))
  respond = functools.partial(_respond, eps, mask)
  # With a mask not in blocks, which would have to take parts of it.
  apply = recompute.by_images if mask is None else recompute.keep_input
  y = apply(respond, params, channel_groups.as_images(x))
  return y.reshape(x.shape), variables["stats"]


def _respond(
  eps: float, mask: Array | None, params: Mapping[str, Array], x: Array
) -> Array:
  # Widened once: a second cast would round the gradient of x twice.
  wide = moments.promote(x)
  power = recompute.kept(moments.mean_square(wide, (1, 2), mask)) + eps
  if "eps_l" in params:
    power += jnp.abs(params["eps_l"]).astype(wide.dtype)
  # One per image: their gradients are sums over pixels, as that of the power.
  own = {
    name: lax.optimization_barrier(
      jnp.broadcast_to(params[name].astype(wide.dtype), power.shape)
    )
    for name in ("scale", "bias", "tau")
    if name in params
  }
  gain = lax.rsqrt(power) * own["scale"]
  if "tau" not in own:
    return (wide * gain + own["bias"]).astype(x.dtype)
  y = _thresholded(wide, gain, own["bias"], own["tau"])
  return y.astype(x.dtype)


@jax.custom_jvp
def _thresholded(x: Array, gain: Array, bias: Array, tau: Array) -> Array:
  """max(x * gain + bias, tau)."""
  return jnp.maximum(x * gain + bias, tau)


@_thresholded.defjvp
def _thresholded_jvp(primals, tangents):
  """Which of the two it is; where both are equal, half of both.

  As halves in 8 bits, for XLA writes it, of the size of x, for all sums and dx.
  """
  x, gain, bias, tau = primals
  dx, dgain, dbias, dtau = tangents
  y = x * gain + bias
  halves = (y > tau).astype(jnp.int8) + (y >= tau).astype(jnp.int8)
  share = lax.optimization_barrier(halves).astype(y.dtype) / 2
  dy = x * dgain + dbias + gain * dx
  return _thresholded(*primals), share * dy + (1 - share) * dtau
