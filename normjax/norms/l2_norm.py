"""Euclidean normalization, as in nGPT: Loshchilov et al., arXiv:2410.01131."""

import functools
from collections.abc import Mapping
from typing import Any

from normjax import validate
from normjax.norms import affine, base, moments, recompute
from normjax.types import Array


def l2_norm(eps: float = 0.0, use_scale: bool = False) -> base.Norm:
  """Vectors of length 1 over the last axis.

      y = x / sqrt(sum(x^2) + eps) * scale

  As nGPT normalises its stream (arXiv:2410.01131, without eps or scale) and,
  with a scale, its queries and keys. Where the root is 0, y and its gradient
  are 0; a float32 vector shorter than 1e-19 counts as 0. In float32 (float64
  for float64). What Llama 4 calls its L2 norm divides by the root of the mean:
  that is `rms_norm` with use_scale=False.

  Args:
    eps: inside the square root, >= 0.
    use_scale: whether there is a `scale`, shape (d,), starting at 1.

  Raises:
    UserError: eps out of range.
  """
  validate.number("l2_norm", "eps", eps, least=0)
  validate.flags("l2_norm", use_scale=use_scale)
  return base.Norm(
    name="l2_norm",
    options={"eps": eps, "use_scale": use_scale},
    traits=base.NormTraits(
      statistics="per_example", scale_invariant=True, affine_last=True
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, use_scale: bool, **_: Any):
  return {"params": affine.init(shape, dtype, use_scale, use_bias=False)}


def _apply(variables: base.Variables, x: Array, *, eps: float, **_: Any):
  affine.check("l2_norm", x, variables["params"])
  normalize = functools.partial(_normalize, eps)
  return recompute.by_rows(normalize, variables["params"], x), variables[
    "stats"
  ]


def _normalize(eps: float, params: Mapping[str, Array], x: Array) -> Array:
  wide = moments.promote(x)
  unit = wide * moments.reciprocal_length(wide, eps)
  return affine.apply(unit, params).astype(x.dtype)
