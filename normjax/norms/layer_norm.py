"""Layer normalization: Ba, Kiros, Hinton 2016, arXiv:1607.06450."""

from collections.abc import Sequence
from typing import Any

from kernels_pallas import layer_norm as kernel
from normjax.norms import affine, base
from normjax.types import Array


def layer_norm(
  eps: float = 1e-6,
  use_bias: bool = True,
  use_scale: bool = True,
  impl: str | Sequence[str] | None = None,
) -> base.Norm:
  """Layer normalization over the last axis.

      y = (x - mean(x)) / sqrt(var(x) + eps) * scale + bias

  arXiv:1607.06450, equations 3 and 4, with the biased variance. Only the last,
  feature axis is reduced, also for images: every pixel is normalised alone.
  Statistics in float32 (float64 for float64), two passes. The function is
  `kernels_pallas.layer_norm.layer_norm`.

  Args:
    eps: inside the square root, > 0. PyTorch has 1e-5, Flax 1e-6.
    use_bias: whether there is a `bias`, shape (d,), starting at 0.
    use_scale: whether there is a `scale`, shape (d,), starting at 1.
    impl: which implementation, a name or several in order of preference:
      "xla_blocks", "xla", "reference" (the one with forward-mode derivatives).
      None takes the first that runs here.

  Raises:
    UserError: eps out of range, or an unknown impl.
  """
  base.check_number("layer_norm", "eps", eps, above=0)
  impl = base.check_impl("layer_norm", impl, kernel.IMPLEMENTATIONS)
  return base.Norm(
    name="layer_norm",
    options={
      "eps": eps,
      "use_bias": use_bias,
      "use_scale": use_scale,
      "impl": impl,
    },
    traits=base.NormTraits(
      statistics="per_example", scale_invariant=True, shift_invariant=True
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, use_bias: bool, use_scale: bool, **_: Any):
  return {"params": affine.init(shape, dtype, use_scale, use_bias)}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  eps: float,
  impl: Sequence[str] | None,
  **_: Any,
):
  params = variables["params"]
  affine.check("layer_norm", x, params)
  scale, bias = params.get("scale"), params.get("bias")
  return kernel.layer_norm(x, scale, bias, eps, impl), variables["stats"]
