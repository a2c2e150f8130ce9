"""Dynamic tanh: Zhu, Chen, He, LeCun, Liu 2025, arXiv:2503.10622."""

from typing import Any

import jax.numpy as jnp

from normjax.norms import affine, base, moments
from normjax.types import Array


def dyt(alpha_init: float = 0.5, use_bias: bool = True) -> base.Norm:
  """Dynamic tanh, an elementwise stand-in for layer normalization.

      y = scale * tanh(alpha * x) + bias

  arXiv:2503.10622, equation 2. No statistic and no eps; computed in float32
  (float64 for float64). The paper's LLaMA has no bias, and smaller `alpha_init`
  the wider the model (its tables 10 and 11).

  Args:
    alpha_init: where `alpha`, one scalar of shape (1,), starts.
    use_bias: whether there is a `bias`, shape (d,), starting at 0.

  Raises:
    UserError: alpha_init is not a finite number.
  """
  base.check_number("dyt", "alpha_init", alpha_init)
  return base.Norm(
    name="dyt",
    options={"alpha_init": alpha_init, "use_bias": use_bias},
    traits=base.NormTraits(statistics="none"),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, alpha_init: float, use_bias: bool):
  alpha = {"alpha": jnp.full((1,), alpha_init, dtype)}
  return {"params": alpha | affine.init(shape, dtype, use_bias=use_bias)}


def _apply(variables: base.Variables, x: Array, **_: Any):
  params = variables["params"]
  affine.check("dyt", x, params)
  wide = moments.promote(x)
  y = affine.apply(jnp.tanh(params["alpha"].astype(wide.dtype) * wide), params)
  return y.astype(x.dtype), variables["stats"]
