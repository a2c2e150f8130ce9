"""Compressed RMS normalization: Jiang et al. 2023, arXiv:2305.14858."""

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import lax

from normjax import errors, validate
from normjax.norms import affine, base, moments, recompute
from normjax.types import Array


def crms_norm(
  eps: float = 1e-6, use_scale: bool = True, use_bias: bool = False
) -> base.Norm:
  """RMS normalization of a zero-mean vector whose last feature is left out.

      y = x / sqrt((sum(x^2) + sum(x)^2) / d + eps) * scale + bias

  arXiv:2305.14858. x holds d - 1 features; the one that is left out is
  -sum(x), as all d sum to 0, so y is what RMS normalization, and layer
  normalization too, make of the other features. That holds for a stream that
  was made so; put where x has all d features, it is a norm of its own, which
  the authors use to compare speed. Only the last axis is reduced.
  Statistics in float32 (float64 for float64).

  Args:
    eps: inside the square root, > 0. The authors' PyTorch code has 1e-5, their
      JAX code 1e-6.
    use_scale: whether there is a `scale`, shape (d - 1,), starting at 1. The
      authors' code has neither scale nor bias.
    use_bias: whether there is a `bias`, shape (d - 1,), starting at 0.

  Raises:
    UserError: eps out of range.
  """
  validate.number("crms_norm", "eps", eps, above=0)
  validate.flags("crms_norm", use_scale=use_scale, use_bias=use_bias)
  return base.Norm(
    name="crms_norm",
    options={"eps": eps, "use_scale": use_scale, "use_bias": use_bias},
    traits=base.NormTraits(
      statistics="per_example", scale_invariant=True, affine_last=True
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _check_size(size: int) -> None:
  if size < 2:
    raise errors.UserError(
      "crms_norm normalises the first d - 1 of d features that sum to 0; with"
      f" d - 1 = {size} only a sign would be left. Give it 2 features or more,"
      " or take rms_norm, which takes all d."
    )


def _init(shape, dtype, *, use_scale: bool, use_bias: bool, **_: Any):
  _check_size(shape[-1])
  return {"params": affine.init(shape, dtype, use_scale, use_bias)}


def _apply(variables: base.Variables, x: Array, *, eps: float, **_: Any):
  affine.check("crms_norm", x, variables["params"])
  _check_size(x.shape[-1])
  normalize = functools.partial(_normalize, eps)
  return recompute.by_rows(normalize, variables["params"], x), variables[
    "stats"
  ]


def _normalize(eps: float, params: Mapping[str, Array], x: Array) -> Array:
  wide = moments.promote(x)
  squares = jnp.sum(wide * wide, axis=-1, keepdims=True)
  left_out = jnp.sum(wide, axis=-1, keepdims=True)
  square = (squares + left_out * left_out) / (x.shape[-1] + 1)
  y = affine.apply(wide * lax.rsqrt(square + eps), params)
  return y.astype(x.dtype)
