"""Filter response normalization: Singh, Krishnan 2019, arXiv:1911.09737."""

import functools
from typing import Any

import jax.numpy as jnp
from jax import lax

from normjax import validate
from normjax.norms import affine, base, moments
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
  wide = moments.promote(x)
  if mask is not None:
    mask = moments.broadcast_mask(mask, wide)
  positions = tuple(range(1, x.ndim - 1))
  power = moments.mean_square(wide, positions, mask) + eps
  if "eps_l" in params:
    power += jnp.abs(params["eps_l"]).astype(wide.dtype)
  y = affine.apply(wide * lax.rsqrt(power), params)
  if "tau" in params:
    y = jnp.maximum(y, params["tau"].astype(wide.dtype))
  return y.astype(x.dtype), variables["stats"]
