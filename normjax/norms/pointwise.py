"""What the norms without statistics share: a bounded map of alpha x + shift."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from normjax import validate
from normjax.norms import affine, base, moments
from normjax.types import Array

FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
  "tanh": jnp.tanh,
  "erf": lax.erf,
  "hardtanh": lambda u: jnp.clip(u, -1, 1),
  "sigmoid": lambda u: (1 + jnp.tanh(u / 2)) / 2,
  "isru": lambda u: u * lax.rsqrt(1 + u * u),
  "smoothsign": lambda u: u / (1 + jnp.abs(u)),
  "arctan": lambda u: 2 / np.pi * jnp.arctan(u),
  "satursin": lambda u: jnp.sin(jnp.clip(u, -np.pi / 2, np.pi / 2)),
}


def make(
  name: str,
  function: str,
  alpha_init: float,
  shift_init: float | None,
  use_bias: bool,
  use_scale: bool,
) -> base.Norm:
  """The norm scale * function(alpha x + shift) + bias.

  Args:
    name: the norm's.
    function: a name in FUNCTIONS.
    alpha_init: where `alpha`, shape (1,), starts.
    shift_init: where `shift`, shape (1,), starts; None for no shift.
    use_bias: whether there is a `bias`, shape (d,), starting at 0.
    use_scale: whether there is a `scale`, shape (d,), starting at 1.

  Raises:
    UserError: an option out of range.
  """
  validate.number(name, "alpha_init", alpha_init)
  if shift_init is not None:
    validate.number(name, "shift_init", shift_init)
  validate.choice(name, "function", function, tuple(FUNCTIONS))
  validate.flags(name, use_bias=use_bias, use_scale=use_scale)
  return base.Norm(
    name=name,
    options={
      "alpha_init": alpha_init,
      "use_bias": use_bias,
      "use_scale": use_scale,
      "function": function,
      "shift_init": shift_init,
    },
    traits=base.NormTraits(statistics="none"),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(
  shape: tuple[int, ...],
  dtype: DTypeLike,
  *,
  alpha_init: float,
  shift_init: float | None,
  use_bias: bool,
  use_scale: bool,
  function: str,
):
  del function
  params = {"alpha": jnp.full((1,), alpha_init, dtype)}
  if shift_init is not None:
    params["shift"] = jnp.full((1,), shift_init, dtype)
  return {"params": params | affine.init(shape, dtype, use_scale, use_bias)}


def _apply(variables: base.Variables, x: Array, *, function: str, **_: object):
  params = variables["params"]
  affine.check(f"the norm with {function}", x, params)
  wide = moments.promote(x)
  inner = params["alpha"].astype(wide.dtype) * wide
  if "shift" in params:
    inner = inner + params["shift"].astype(wide.dtype)
  y = affine.apply(FUNCTIONS[function](inner), params)
  return y.astype(x.dtype), variables["stats"]
