"""Root mean square normalization: Zhang, Sennrich 2019, arXiv:1910.07467."""

from typing import Any

from jax import lax

from normjax.norms import affine, base, moments
from normjax.types import Array


def rms_norm(eps: float = 1e-6, use_scale: bool = True) -> base.Norm:
  """Root mean square normalization over the last axis.

      y = x / sqrt(mean(x^2) + eps) * scale

  arXiv:1910.07467, equation 4. Only the last, feature axis is reduced. The
  statistic is in float32 (float64 for float64), and so is the product with
  `scale`.

  Args:
    eps: inside the square root, > 0.
    use_scale: whether there is a `scale`, shape (d,), starting at 1.

  Raises:
    UserError: eps out of range.
  """
  base.check_number("rms_norm", "eps", eps, above=0)
  return base.Norm(
    name="rms_norm",
    options={"eps": eps, "use_scale": use_scale},
    traits=base.NormTraits(statistics="per_example", scale_invariant=True),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, use_scale: bool, **_: Any):
  return {"params": affine.init(shape, dtype, use_scale, use_bias=False)}


def _apply(variables: base.Variables, x: Array, *, eps: float, **_: Any):
  affine.check("rms_norm", x, variables["params"])
  square = moments.mean_square(x, axes=(-1,))
  normalized = moments.promote(x) * lax.rsqrt(square + eps)
  y = affine.apply(normalized, variables["params"])
  return y.astype(x.dtype), variables["stats"]
