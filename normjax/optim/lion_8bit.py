"""Lion (Chen et al. 2023, arXiv:2302.06675) with an 8-bit state."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kernels_pallas import lion_8bit_update as op
from kernels_pallas.lion_8bit_update import rule
from normjax import validate
from normjax.optim import compose, groups, step_8bit
from normjax.optim.quantize_state import describe_bits, quantize_state
from normjax.types import Array, PyTree

__all__ = ["lion_8bit", "scale_by_lion_8bit"]


def _lion(b1: float | Array, b2: float | Array) -> optax.GradientTransformation:
  def init(params):
    return optax.ScaleByLionState(
      count=jnp.zeros((), jnp.int32), mu=compose.zeros(params, None)
    )

  def update(updates, state, params=None):
    del params
    flat, structure = jax.tree.flatten(updates)
    moved = [
      rule.direction(g, m, b1, b2)
      for g, m in zip(flat, jax.tree.leaves(state.mu), strict=True)
    ]
    direction, mu = (
      structure.unflatten([row[n] for row in moved]) for n in range(2)
    )
    count = optax.safe_increment(state.count)
    return direction, optax.ScaleByLionState(count=count, mu=mu)

  return optax.GradientTransformation(init, update)


@validate.options
def scale_by_lion_8bit(
  b1: float | Array = 0.9,
  b2: float | Array = 0.99,
  *,
  block_size: int | None = None,
  min_size: int | None = None,
  block_layout: str = "rows",
  keep: str | None = groups.EMBEDDING_NAMES,
  sign_repair: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """Lion's direction from a momentum held in 8 bits.

  The state is a `QuantizeState` of `optax.ScaleByLionState`. Arguments as in
  `lion_8bit`.
  """
  validate.betas("scale_by_lion_8bit", b1=b1, b2=b2)
  return quantize_state(
    _lion(b1, b2),
    block_size,
    min_size,
    block_layout=block_layout,
    keep=keep,
    sign_repair=sign_repair,
  )


@validate.options
def lion_8bit(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.99,
  *,
  weight_decay: float | Array = 0.0,
  mask: Any = None,
  block_size: int | None = None,
  min_size: int | None = None,
  block_layout: str = "rows",
  keep: str | None = groups.EMBEDDING_NAMES,
  sign_repair: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """Lion whose momentum is held in 8 bits, about 1.02 bytes per parameter.

      w -= lr (sign(b1 m + (1 - b1) g) + wd w)
      m = quantize(b2 m + (1 - b2) g)

  arXiv:2302.06675, algorithm 2, with the state of arXiv:2110.02861, section 2,
  as in bitsandbytes' `Lion8bit`. The sign of a momentum that was rounded to 0
  would be the gradient's alone: the sign repair keeps the negative ones. The
  arithmetic is in float32, also for bfloat16 parameters; no eps. An entry
  whose gradient is NaN or infinite does not move, and its momentum becomes 0.

  Two defaults are not bitsandbytes': blocks are runs of the last axis, the
  outputs of a Flax kernel, where it cuts the flattened (outputs, inputs); and
  embeddings keep float32 momenta, which there only its own embedding layers do.
  `block_layout="flat", keep=None` is its rule, on the leaf as it lies here.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: weight of the momentum in the step, in [0, 1).
    b2: decay of the momentum, in [0, 1).
    weight_decay: rate of the decay, >= 0, times lr.
    mask: which leaves decay: None (all, as in bitsandbytes), "default"
      (matrices and embeddings), a tree of booleans or a function.
    block_size: entries that share a float32 scale, >= 1; None stands for 256.
    min_size: leaves with fewer entries, over all devices, keep float32 momenta;
      None stands for 4096.
    block_layout: "rows" cuts the last axis, and codes shard as the parameter
      does; "flat" cuts the leaf in C order, as bitsandbytes does.
    keep: regular expression on paths that keep float32 momenta, by default
      embeddings; None for none.
    sign_repair: keeps a negative m from rounding to 0, as bitsandbytes does on
      GPUs; not on CPUs.

  Raises:
    UserError: a concrete number out of range, or a mask of another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.mean((w - 1) ** 2)
    >>> tx = optim.lion_8bit(0.1)
    >>> w = jnp.linspace(-2, 2, 4096).reshape(16, 256)
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    2.09
    1.87
    1.67
  """
  method = "lion_8bit"
  direction = scale_by_lion_8bit(
    b1,
    b2,
    block_size=block_size,
    min_size=min_size,
    block_layout=block_layout,
    keep=keep,
    sign_repair=sign_repair,
  )
  step = compose.descend(
    method, direction, learning_rate, weight_decay=weight_decay, mask=mask
  )
  return step_8bit.add(
    method,
    compose.finish(method, compose.skip_entries(step, jnp.isfinite), mask),
    op,
    lambda _, rate, scale: op.Scalars(rate, b1, b2, weight_decay, scale),
    learning_rate=learning_rate,
    mask=mask,
    block_size=block_size,
    block_layout=block_layout,
    sign_repair=sign_repair,
  )


def routes(params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  return describe_bits("lion", params, options)
