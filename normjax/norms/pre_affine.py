"""RMS normalization with a gain before the statistic: arXiv:2601.22966."""

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from kernels_pallas.rms_norm import ref
from normjax import validate
from normjax.norms import affine, base, moments, recompute
from normjax.types import Array


def pre_affine(eps: float = 1e-6, lam_init: float = 1.0) -> base.Norm:
  """PreAffine: RMS normalization of lam * x.

      z = lam * x,    y = scale * z / sqrt(mean(z^2) + eps)

  arXiv:2601.22966, section 3.3. A large entry of `lam` does for the statistic
  what an outlier channel of x does otherwise: outliers move from activations
  to a parameter. The paper does not state where lam starts; at 1, as public
  ports have it, the norm starts as `rms_norm`. The statistic is that of z, in
  float32 (float64 for float64), and so are both products.

  Args:
    eps: inside the square root, > 0.
    lam_init: where `lam`, shape (d,), starts; not 0, which is a dead start.

  Raises:
    UserError: an option out of range.
  """
  validate.number("pre_affine", "eps", eps, above=0)
  validate.number("pre_affine", "lam_init", lam_init, above=0)
  return base.Norm(
    name="pre_affine",
    options={"eps": eps, "lam_init": lam_init},
    traits=base.NormTraits(statistics="per_example", scale_invariant=True),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(
  shape: tuple[int, ...], dtype: DTypeLike, *, lam_init: float, **_: Any
):
  lam = {"lam": jnp.full(shape[-1:], lam_init, dtype)}
  return {"params": lam | affine.init(shape, dtype, use_bias=False)}


def _apply(variables: base.Variables, x: Array, *, eps: float, **_: Any):
  params = variables["params"]
  affine.check("pre_affine", x, params)
  normalize = functools.partial(_normalize, eps)
  return recompute.by_rows(normalize, params, x), variables["stats"]


def _normalize(eps: float, params: Mapping[str, Array], x: Array) -> Array:
  # Widened once: a second cast would round the gradient of x twice.
  wide = moments.promote(x)
  scaled = params["lam"].astype(wide.dtype) * wide
  # Not by the op: run.json would say that another rms_norm ran here.
  y = ref.rms_norm(scaled, params["scale"], eps)
  return y.astype(x.dtype)
