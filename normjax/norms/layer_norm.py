"""Layer normalization: Ba, Kiros, Hinton 2016, arXiv:1607.06450."""

from collections.abc import Sequence
from typing import Any

from kernels_pallas import layer_norm as kernel
from normjax import errors, validate
from normjax.norms import affine, base, moments
from normjax.types import Array


def layer_norm(
  eps: float = 1e-6,
  use_bias: bool = True,
  use_scale: bool = True,
  impl: str | Sequence[str] | None = None,
  zero_centered: bool = False,
  eps_placement: str = "inside",
  statistics: str = "two_pass",
  scale_form: str = "plain",
) -> base.Norm:
  """Layer normalization over the last axis.

      y = (x - mean(x)) / sqrt(var(x) + eps) * scale + bias

  arXiv:1607.06450, equations 3 and 4, with the biased variance. Only the last,
  feature axis is reduced, also for images: every pixel is normalised alone.
  Statistics in float32 (float64 for float64), two passes unless told otherwise.
  The function is `kernels_pallas.layer_norm.layer_norm`, and plain operations
  where `eps_placement` or `statistics` ask for another formula.

  Args:
    eps: inside the square root, > 0. PyTorch has 1e-5, Flax 1e-6.
    use_bias: whether there is a `bias`, shape (d,), starting at 0.
    use_scale: whether there is a `scale`, shape (d,), starting at 1.
    impl: which implementation, a name or several in order of preference:
      "mosaic_gpu", "pallas_tpu", "xla_blocks", "xla", "reference" (the one
      with forward-mode derivatives). None takes the first that runs here, of
      the first two only one that such a device has proved.
    zero_centered: the gain is 1 + scale and `scale` starts at 0, so that
      weight decay pulls the gain to 1.
    eps_placement: "inside" the root, or "outside": / (sqrt(var(x)) + eps).
    statistics: "two_pass"; or "one_pass", an ablation that takes the variance
      as mean(x^2) - mean(x)^2, clipped at 0, and fails on large means.
    scale_form: "plain", or "magnitude_direction": the gain is magnitude *
      direction / ||direction||, which start at sqrt(d) and ones; see
      `normjax.norms.magnitude` (arXiv:2605.26895, our reading).

  Raises:
    UserError: an option out of range, or an impl that has not the formula.
  """
  validate.number("layer_norm", "eps", eps, above=0)
  affine.check_options("layer_norm", use_scale, zero_centered, scale_form)
  validate.flags("layer_norm", use_bias=use_bias)
  validate.choice(
    "layer_norm", "eps_placement", eps_placement, tuple(moments.RECIPROCAL_ROOT)
  )
  validate.choice(
    "layer_norm", "statistics", statistics, tuple(moments.MEAN_AND_VARIANCE)
  )
  asked = validate.implementations("layer_norm", impl, kernel.IMPLEMENTATIONS)
  if asked and not _kernel_has_it(eps_placement, statistics):
    raise errors.UserError(
      f"layer_norm: impl={impl!r} computes the formula with eps_placement"
      " 'inside' and statistics 'two_pass'; leave impl out for"
      f" eps_placement={eps_placement!r} and statistics={statistics!r}."
    )
  return base.Norm(
    name="layer_norm",
    options={
      "eps": eps,
      "use_bias": use_bias,
      "use_scale": use_scale,
      "impl": asked,
      "zero_centered": zero_centered,
      "eps_placement": eps_placement,
      "statistics": statistics,
      "scale_form": scale_form,
    },
    traits=base.NormTraits(
      statistics="per_example",
      scale_invariant=True,
      shift_invariant=True,
      affine_last=True,
      one_pass=statistics == "one_pass",
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _kernel_has_it(eps_placement: str, statistics: str) -> bool:
  return eps_placement == "inside" and statistics == "two_pass"


def _init(
  shape,
  dtype,
  *,
  use_bias: bool,
  use_scale: bool,
  zero_centered: bool,
  scale_form: str,
  **_: Any,
):
  params = affine.init(
    shape, dtype, use_scale, use_bias, zero_centered, scale_form
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
  statistics: str,
  **_: Any,
):
  affine.check("layer_norm", x, variables["params"])
  params = affine.gains(variables["params"], zero_centered)
  if _kernel_has_it(eps_placement, statistics):
    scale, bias = params.get("scale"), params.get("bias")
    return kernel.layer_norm(x, scale, bias, eps, impl), variables["stats"]
  # Widened once: a second cast would round the gradient of x twice.
  wide = moments.promote(x)
  center, variance = moments.MEAN_AND_VARIANCE[statistics](wide, axes=(-1,))
  normalized = wide - center
  normalized *= moments.RECIPROCAL_ROOT[eps_placement](variance, eps)
  return affine.apply(normalized, params).astype(x.dtype), variables["stats"]
