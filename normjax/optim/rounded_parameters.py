"""Parameters of 16 bits that small updates still move.

Stochastic rounding is as in torchao (pytorch/ao, BSD-3-Clause, held against
its code), Kahan's sum as in optimi (warner-benjamin/optimi, MIT, its page on
it read); both for bfloat16 weights: Zamirai et al., arXiv:2010.06192, of which
the abstract was read.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike

from normjax import validate
from normjax.optim import draws, groups, in_place, meshes, safe
from normjax.types import Array, PyTree

__all__ = ["add_compensated", "add_stochastically", "rounded_parameters"]

# In 16 bits: what is rounded. Stochastic rounding is of the first alone.
_NARROW = (jnp.bfloat16, jnp.float16)


class RoundedParametersState(NamedTuple):
  """State of `rounded_parameters`."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  inner: PyTree
  # What rounding has taken from each parameter, in its dtype; MaskedNode of
  # those that have none.
  compensation: PyTree


def round_to(x: Array, dtype: Any) -> Array:
  """X rounded to the nearest number of a dtype, but still in its own.

  By `reduce_precision`: a cast there and back XLA may leave out.
  """
  facts = jnp.finfo(dtype)
  return lax.reduce_precision(x, facts.nexp, facts.nmant)


def add_stochastically(w: Array, u: Array, bits: Array) -> Array:
  """W + u, rounded up or down at random, right on average.

  Away from zero with the probability of the part that is cut off; what
  bfloat16 represents stays, and what is not finite is rounded to the nearest.

  Args:
    w: bfloat16.
    u: of its shape.
    bits: random, uint16, of its shape.

  Returns:
    bfloat16.
  """
  x = w.astype(jnp.float32) + u.astype(jnp.float32)
  pattern = lax.bitcast_convert_type(x, jnp.uint32)
  # Adds with a carry into what is kept, for more than the rest of 2^16.
  up = (pattern + bits.astype(jnp.uint32)) & jnp.uint32(0xFFFF0000)
  rounded = lax.bitcast_convert_type(up, jnp.float32)
  rounded = jnp.where(jnp.isfinite(x), rounded, x)
  return rounded.astype(jnp.bfloat16)


def add_compensated(
  w: Array, u: Array, compensation: Array
) -> tuple[Array, Array]:
  """W + u, and what rounding has taken, which the next update gets.

      u = u + c;  w' = round(w + u);  c' = round(u + (w - w'))

  Args:
    w: of 16 bits.
    u: of its shape.
    compensation: c, in the dtype of w; 0 at first, and wherever w is replaced.

  Returns:
    w' and c', in the dtype of w.
  """
  wide = w.astype(jnp.float32)
  u = u.astype(jnp.float32) + compensation.astype(jnp.float32)
  moved = round_to(wide + u, w.dtype)
  left = round_to(u + (wide - moved), w.dtype)
  # Beyond the largest number there is nothing to be made up for.
  left = jnp.where(jnp.isfinite(left), left, 0)
  return moved.astype(w.dtype), left.astype(w.dtype)


def _nearest(w, u, compensation, bits):
  del bits
  moved = round_to(w.astype(jnp.float32) + u.astype(jnp.float32), w.dtype)
  return moved.astype(w.dtype), compensation


def _stochastic(w, u, compensation, bits):
  if w.dtype != jnp.bfloat16:
    return _nearest(w, u, compensation, bits)
  return add_stochastically(w, u, bits()), compensation


def _kahan(w, u, compensation, bits):
  del bits
  return add_compensated(w, u, compensation)


ROUNDINGS: dict[str, Callable[..., tuple[Array, Any]]] = {
  "nearest": _nearest,
  "stochastic": _stochastic,
  "kahan": _kahan,
}


def is_narrow(w: Any) -> bool:
  """Whether a parameter has 16 bits."""
  return w.dtype in _NARROW


@validate.options
def rounded_parameters(
  inner: optax.GradientTransformation,
  rounding: str = "stochastic",
  *,
  seed: int | Array = 0,
) -> in_place.InPlace:
  """Moves parameters of 16 bits by an optimizer that sees them in float32.

  A bfloat16 weight of 1 has its neighbours at 1 - 0.004 and 1 + 0.008: to the
  nearest, it is not moved by updates of 0.001, however many.

      stochastic   up or down at random, right on average. It stays noisy: a
                   weight that should rest has a random walk, in steps of the
                   distance to its neighbours.
      kahan        what rounding has taken is kept, in the parameter's dtype,
                   and given to the next update: 2 more bytes per parameter.
      nearest      for comparison

  The inner optimizer gets gradients, parameters and its state in float32, so
  that a moment with `mu_dtype=None` has it too. Parameters of other dtypes are
  moved as ever; "stochastic" rounds float16 to the nearest.

  `update` gives float32 updates with which `optax.apply_updates` lands on the
  rounded numbers. `optim.apply` gives these themselves. What asks for updates
  in the gradients' dtype, as `optax.apply_if_finite` does, goes around `inner`.

  Args:
    inner: an optimizer.
    rounding: "stochastic", "kahan" or "nearest".
    seed: of what is drawn, >= 0, may be traced.

  Raises:
    UserError: another rounding.
    TypeError: an inner that is no transform; at `init`, a leaf of another type.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> for rounding in ("nearest", "kahan"):
    ...   tx = optim.rounded_parameters(optax.sgd(1e-3), rounding)
    ...   w = jnp.ones((), jnp.bfloat16)
    ...   state = tx.init(w)
    ...   for _ in range(8):
    ...     w, state = optim.apply(tx, jnp.ones_like(w), state, w)
    ...   print(f"{w:.3f}")
    1.000
    0.992
  """
  method = "rounded_parameters"
  add = validate.choose(method, "rounding", rounding, ROUNDINGS)
  validate.seed(method, seed)
  inner = optax.with_extra_args_support(inner)

  def init(params):
    groups.check_leaves(method, params)
    has_rest = rounding == "kahan"
    compensation = jax.tree.map(
      lambda w: (
        meshes.zeros(w) if has_rest and is_narrow(w) else optax.MaskedNode()
      ),
      params,
    )
    state = RoundedParametersState(
      jnp.zeros((), jnp.int32),
      inner.init(jax.tree.map(safe.promote, params)),
      compensation,
    )
    return meshes.place(state, params)

  def step(gradients, state, params, scale, extra_args):
    """The parameters and the state after a step."""
    if params is None:
      raise ValueError(f"{method}: update needs params as its third argument.")
    wide = jax.tree.map(safe.promote, gradients)
    if scale is not None:
      wide = jax.tree.map(lambda g: g * scale, wide)
    updates, moved_inner = inner.update(
      wide, state.inner, jax.tree.map(safe.promote, params), **extra_args
    )
    structure = jax.tree.structure(params)
    rows = zip(
      groups.leaves(params),
      jax.tree.leaves(updates),
      structure.flatten_up_to(state.compensation),
      strict=True,
    )
    moved = []
    for (path, w), u, rest in rows:
      if not is_narrow(w):
        moved.append(((w + u).astype(w.dtype), rest))
        continue

      def bits(path=path, w=w):
        return draws.bits(path, w.shape, state.count, seed=seed)

      moved.append(add(w, u, rest, bits))
    weights, rests = (
      structure.unflatten([row[n] for row in moved]) for n in range(2)
    )
    count = optax.safe_increment(state.count)
    return weights, RoundedParametersState(count, moved_inner, rests)

  def differences(weights, params):
    return jax.tree.map(
      lambda new, w: safe.promote(new) - safe.promote(w), weights, params
    )

  def update(updates, state, params=None, **extra_args):
    weights, state = step(updates, state, params, None, extra_args)
    return differences(weights, params), state

  def apply(gradients, state, params, *, impl=None, scale=None, **extra_args):
    if impl is not None:
      validate.refuse(method, "impl", impl, "None, since it has no kernel")
    weights, state = step(gradients, state, params, scale, extra_args)
    norm = optax.tree.norm(differences(weights, params))
    return in_place.Step(weights, state, norm, updates=None)

  return in_place.add(
    optax.GradientTransformationExtraArgs(init, update),
    apply,
    serves=lambda gradients, state, params: True,
  )
