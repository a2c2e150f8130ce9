"""ScaleNorm: Nguyen, Salazar 2019, arXiv:1910.05895."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from normjax import validate
from normjax.norms import base, moments, recompute
from normjax.types import Array


def scale_norm(eps: float = 1e-5) -> base.Norm:
  """Every vector brought to one learned length.

      y = scale * x / max(|x|, eps)

  arXiv:1910.05895, with the floor under the length that the authors' code
  has. |x| is the Euclidean length over the last axis, in float32 (float64 for
  float64). `scale`, their g, is one number of shape (1,), starting at sqrt(d):
  RMS normalization with one gain for all features.

  Args:
    eps: the least length that is divided by, > 0.

  Raises:
    UserError: eps out of range.
  """
  validate.number("scale_norm", "eps", eps, above=0)
  return base.Norm(
    name="scale_norm",
    options={"eps": eps},
    traits=base.NormTraits(statistics="per_example", scale_invariant=True),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, **_: Any):
  return {"params": {"scale": jnp.full((1,), math.sqrt(shape[-1]), dtype)}}


def _apply(variables: base.Variables, x: Array, *, eps: float, **_: Any):
  normalize = functools.partial(_normalize, eps)
  return recompute.by_rows(normalize, variables["params"], x), variables[
    "stats"
  ]


def _normalize(eps: float, params: Mapping[str, Array], x: Array) -> Array:
  wide = moments.promote(x)
  square = jnp.sum(wide * wide, axis=-1, keepdims=True)
  length = jnp.maximum(moments.root(square), eps)
  return (wide * (params["scale"].astype(wide.dtype) / length)).astype(x.dtype)
