"""Root mean square normalization: Zhang, Sennrich 2019, arXiv:1910.07467."""

import fractions
import math
from collections.abc import Sequence
from typing import Any

from kernels_pallas import rms_norm as kernel
from normjax import errors, validate
from normjax.norms import affine, base, moments
from normjax.types import Array


def rms_norm(
  eps: float = 1e-6,
  use_scale: bool = True,
  impl: str | Sequence[str] | None = None,
  zero_centered: bool = False,
  eps_placement: str = "inside",
  partial: float = 1.0,
  scale_form: str = "plain",
) -> base.Norm:
  """Root mean square normalization over the last axis.

      y = x / sqrt(mean(x^2) + eps) * scale

  arXiv:1910.07467, equation 4. Only the last, feature axis is reduced. The
  statistic is in float32 (float64 for float64), and so is the product with
  `scale`. The function is `kernels_pallas.rms_norm.rms_norm`, and plain
  operations where `eps_placement` or `partial` ask for another formula.

  Args:
    eps: inside the square root, > 0.
    use_scale: whether there is a `scale`, shape (d,), starting at 1.
    impl: which implementation, a name or several in order of preference:
      "mosaic_gpu", "pallas_tpu", "xla_blocks", "xla", "reference" (the one
      with forward-mode derivatives). None takes the first that runs here, of
      the first two only one that such a device has proved.
    zero_centered: the gain is 1 + scale and `scale` starts at 0, as in Gemma
      and Qwen3-Next, so that weight decay pulls the gain to 1.
    eps_placement: "inside" the root, or "outside": / (sqrt(mean(x^2)) + eps).
    partial: the paper's pRMSNorm, which has 0.0625: the mean is that of the
      first ceil(partial d) features (the authors' code rounds down). In (0, 1].
    scale_form: "plain", or "magnitude_direction": the gain is magnitude *
      direction / ||direction||, which start at sqrt(d) and ones; see
      `normjax.norms.magnitude` (arXiv:2605.26895, our reading).

  Raises:
    UserError: an option out of range, or an impl that has not the formula.
  """
  validate.number("rms_norm", "eps", eps, above=0)
  affine.check_options("rms_norm", use_scale, zero_centered, scale_form)
  asked = validate.implementations("rms_norm", impl, kernel.IMPLEMENTATIONS)
  validate.choice(
    "rms_norm", "eps_placement", eps_placement, tuple(moments.RECIPROCAL_ROOT)
  )
  validate.number("rms_norm", "partial", partial, above=0, most=1)
  if asked and not _kernel_has_it(eps_placement, partial):
    raise errors.UserError(
      f"rms_norm: impl={impl!r} computes the formula with eps_placement"
      " 'inside' and partial 1.0; leave impl out for"
      f" eps_placement={eps_placement!r} and partial={partial!r}."
    )
  return base.Norm(
    name="rms_norm",
    options={
      "eps": eps,
      "use_scale": use_scale,
      "impl": asked,
      "zero_centered": zero_centered,
      "eps_placement": eps_placement,
      "partial": partial,
      "scale_form": scale_form,
    },
    traits=base.NormTraits(
      statistics="per_example", scale_invariant=True, affine_last=True
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _kernel_has_it(eps_placement: str, partial: float) -> bool:
  return eps_placement == "inside" and partial == 1


def _init(
  shape,
  dtype,
  *,
  use_scale: bool,
  zero_centered: bool,
  scale_form: str,
  **_: Any,
):
  params = affine.init(
    shape, dtype, use_scale, False, zero_centered, scale_form
  )
  return {"params": params}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  eps: float,
  impl: Sequence[str] | None,
  zero_centered: bool,
  eps_placement: str,
  partial: float,
  **_: Any,
):
  affine.check("rms_norm", x, variables["params"])
  params = affine.gains(variables["params"], zero_centered)
  if _kernel_has_it(eps_placement, partial):
    y = kernel.rms_norm(x, params.get("scale"), eps, impl)
    return y, variables["stats"]
  wide = moments.promote(x)
  # As a fraction of the written number: 0.07 of 100 features are 7, not 8.
  size = math.ceil(fractions.Fraction(str(partial)) * x.shape[-1])
  square = moments.mean_square(wide[..., :size], axes=(-1,))
  reciprocal = moments.RECIPROCAL_ROOT[eps_placement](square, eps)
  y = affine.apply(wide * reciprocal, params)
  return y.astype(x.dtype), variables["stats"]
