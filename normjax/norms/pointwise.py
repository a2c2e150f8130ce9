"""What the norms without statistics share: a bounded map of alpha x + shift."""

import functools
from collections.abc import Callable, Mapping
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from normjax import validate
from normjax.norms import affine, base, moments, recompute
from normjax.types import Array


@jax.custom_jvp
def tanh(u: Array) -> Array:
  """The tanh of u, with the derivative 4 e / (1 + e)^2, e = exp(-2 |u|).

  It is 1 - tanh(u)^2 without the cancellation, and without tanh(u): that XLA
  would write, of the size of x, for all that read it in the backward pass.
  """
  return jnp.tanh(u)


@tanh.defjvp
def _tanh_jvp(primals, tangents):
  (u,), (du,) = primals, tangents
  e = jnp.exp(-2 * jnp.abs(u))
  return tanh(u), 4 * e / jnp.square(1 + e) * du


FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
  "tanh": tanh,
  "erf": lax.erf,
  "hardtanh": lambda u: jnp.clip(u, -1, 1),
  "sigmoid": lambda u: (1 + tanh(u / 2)) / 2,
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
    traits=base.NormTraits(statistics="none", affine_last=True),
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
  bounded = functools.partial(_bounded, FUNCTIONS[function])
  return recompute.by_rows(bounded, params, x), variables["stats"]


def _bounded(
  function: Callable[[Array], Array], params: Mapping[str, Array], x: Array
) -> Array:
  """Returns scale * function(alpha x + shift) + bias."""
  wide = moments.promote(x)
  # One per channel: their gradients are sums over rows, as all others.
  alpha, shift = (
    jnp.broadcast_to(params[name].astype(wide.dtype), x.shape[-1:])
    if name in params
    else None
    for name in ("alpha", "shift")
  )
  again = recompute.again(wide, x)
  y = cast(Array, _of_line(function, again, wide, alpha, shift))
  return affine.apply(y, params).astype(x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _of_line(
  function: Callable[[Array], Array],
  again: Array,
  x: Array,
  alpha: Array,
  shift: Array | None,
) -> Array:
  """function(alpha x + shift); `again` is x."""
  del again
  return function(_line(x, alpha, shift))


@_of_line.defjvp
def _of_line_jvp(function, primals, tangents):
  """The slope is found twice: for the sums, and for dx. Once, it is written."""
  again, x, alpha, shift = primals
  _, dx, dalpha, dshift = tangents

  def slope(x, change):
    return jax.jvp(function, (_line(x, alpha, shift),), (change,))[1]

  by_params = slope(again, _line(again, dalpha, dshift))
  return function(_line(x, alpha, shift)), by_params + slope(x, alpha * dx)


def _line(x: Array, alpha: Array, shift: Array | None) -> Array:
  return alpha * x if shift is None else alpha * x + shift
