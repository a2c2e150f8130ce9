"""Root mean square normalization: Zhang, Sennrich 2019, arXiv:1910.07467."""

from collections.abc import Sequence
from typing import Any

from kernels_pallas import rms_norm as kernel
from normjax.norms import affine, base
from normjax.types import Array


def rms_norm(
  eps: float = 1e-6,
  use_scale: bool = True,
  impl: str | Sequence[str] | None = None,
) -> base.Norm:
  """Root mean square normalization over the last axis.

      y = x / sqrt(mean(x^2) + eps) * scale

  arXiv:1910.07467, equation 4. Only the last, feature axis is reduced. The
  statistic is in float32 (float64 for float64), and so is the product with
  `scale`. The function is `kernels_pallas.rms_norm.rms_norm`.

  Args:
    eps: inside the square root, > 0.
    use_scale: whether there is a `scale`, shape (d,), starting at 1.
    impl: which implementation, a name or several in order of preference:
      "pallas_tpu", "xla_blocks", "xla", "reference" (the one with forward-mode
      derivatives). None takes the first that runs here.

  Raises:
    UserError: eps out of range, or an unknown impl.
  """
  base.check_number("rms_norm", "eps", eps, above=0)
  impl = base.check_impl("rms_norm", impl, kernel.IMPLEMENTATIONS)
  return base.Norm(
    name="rms_norm",
    options={"eps": eps, "use_scale": use_scale, "impl": impl},
    traits=base.NormTraits(statistics="per_example", scale_invariant=True),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, use_scale: bool, **_: Any):
  return {"params": affine.init(shape, dtype, use_scale, use_bias=False)}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  eps: float,
  impl: Sequence[str] | None,
  **_: Any,
):
  params = variables["params"]
  affine.check("rms_norm", x, params)
  y = kernel.rms_norm(x, params.get("scale"), eps, impl)
  return y, variables["stats"]
