"""Layer normalization: Ba, Kiros, Hinton 2016, arXiv:1607.06450."""

from typing import Any

from jax import lax

from normjax.norms import affine, base, moments
from normjax.types import Array


def layer_norm(
  eps: float = 1e-6, use_bias: bool = True, use_scale: bool = True
) -> base.Norm:
  """Layer normalization over the last axis.

      y = (x - mean(x)) / sqrt(var(x) + eps) * scale + bias

  arXiv:1607.06450, equations 3 and 4, with the biased variance. Only the last,
  feature axis is reduced, also for images: every pixel is normalised alone.
  Statistics in float32 (float64 for float64), two passes.

  Args:
    eps: inside the square root, > 0. PyTorch has 1e-5, Flax 1e-6.
    use_bias: whether there is a `bias`, shape (d,), starting at 0.
    use_scale: whether there is a `scale`, shape (d,), starting at 1.

  Raises:
    UserError: eps out of range.
  """
  base.check_number("layer_norm", "eps", eps, above=0)
  return base.Norm(
    name="layer_norm",
    options={"eps": eps, "use_bias": use_bias, "use_scale": use_scale},
    traits=base.NormTraits(
      statistics="per_example", scale_invariant=True, shift_invariant=True
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, use_bias: bool, use_scale: bool, **_: Any):
  return {"params": affine.init(shape, dtype, use_scale, use_bias)}


def _apply(variables: base.Variables, x: Array, *, eps: float, **_: Any):
  affine.check("layer_norm", x, variables["params"])
  # Widened once: a second cast would round the gradient of x twice.
  wide = moments.promote(x)
  center, variance = moments.mean_and_variance(wide, axes=(-1,))
  normalized = (wide - center) * lax.rsqrt(variance + eps)
  y = affine.apply(normalized, variables["params"])
  return y.astype(x.dtype), variables["stats"]
