"""Momentum with an 8-bit state: Dettmers et al. 2022, arXiv:2110.02861."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kernels_pallas import momentum_8bit_update as op
from kernels_pallas.momentum_8bit_update import rule
from normjax import validate
from normjax.optim import compose, groups, step_8bit
from normjax.optim.quantize_state import describe_bits, quantize_state
from normjax.types import Array, PyTree

__all__ = ["momentum_8bit", "scale_by_momentum_8bit"]


class Momentum8bitState(NamedTuple):
  """What `scale_by_momentum_8bit` quantises."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  mu: PyTree  # The shapes of the parameters, float32.


def _momentum(momentum: float | Array) -> optax.GradientTransformation:
  def init(params):
    return Momentum8bitState(
      count=jnp.zeros((), jnp.int32), mu=compose.zeros(params, None)
    )

  def update(updates, state, params=None):
    del params
    # From m = 0 the first step gives m = g without a case of its own.
    mu = jax.tree.map(
      lambda g, m: rule.accumulated(g, m, momentum), updates, state.mu
    )
    count = optax.safe_increment(state.count)
    return mu, Momentum8bitState(count=count, mu=mu)

  return optax.GradientTransformation(init, update)


@validate.options
def scale_by_momentum_8bit(
  momentum: float | Array = 0.9,
  *,
  block_size: int | None = None,
  min_size: int | None = None,
  block_layout: str = "rows",
  keep: str | None = groups.EMBEDDING_NAMES,
  sign_repair: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """The sum of past gradients, held in 8 bits.

  The state is a `QuantizeState` of `Momentum8bitState`. Arguments as in
  `momentum_8bit`.
  """
  validate.betas("scale_by_momentum_8bit", momentum=momentum)
  return quantize_state(
    _momentum(momentum),
    block_size,
    min_size,
    block_layout=block_layout,
    keep=keep,
    sign_repair=sign_repair,
  )


@validate.options
def momentum_8bit(
  learning_rate: optax.ScalarOrSchedule,
  momentum: float | Array = 0.9,
  *,
  weight_decay: float | Array = 0.0,
  mask: Any = None,
  block_size: int | None = None,
  min_size: int | None = None,
  block_layout: str = "rows",
  keep: str | None = groups.EMBEDDING_NAMES,
  sign_repair: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """SGD whose momentum is held in 8 bits, about 1.02 bytes per parameter.

      m = momentum m + (g + wd w);  w -= lr m;  m = quantize(m)

  arXiv:2110.02861, section 2, with the numerics of bitsandbytes' `SGD8bit`:
  no dampening, no Nesterov step, and the decay is part of the gradient. The
  step uses m before it is rounded. The arithmetic is in float32, also for
  bfloat16 parameters; no eps. An entry whose gradient is NaN or infinite does
  not move, and its momentum becomes 0.

  Two defaults are not bitsandbytes': blocks are runs of the last axis, the
  outputs of a Flax kernel, where it cuts the flattened (outputs, inputs); and
  embeddings keep float32 momenta, which there only its own embedding layers do.
  `block_layout="flat", keep=None` is its rule, on the leaf as it lies here.

  Args:
    learning_rate: number, traced scalar or schedule.
    momentum: decay of the past, in [0, 1).
    weight_decay: coupled, >= 0: it enters the momentum.
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
    >>> objective = lambda w: jnp.sum((w - 1) ** 2) / 1e4
    >>> tx = optim.momentum_8bit(200.0)
    >>> w = jnp.linspace(-2, 2, 4096).reshape(16, 256)
    >>> state = tx.init(w)
    >>> optim.state_bytes(state) / w.size < 1.02
    True
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    0.88
    0.75
    0.59
  """
  method = "momentum_8bit"
  validate.scalars(method, weight_decay=weight_decay)
  direction = scale_by_momentum_8bit(
    momentum,
    block_size=block_size,
    min_size=min_size,
    block_layout=block_layout,
    keep=keep,
    sign_repair=sign_repair,
  )
  step = optax.chain(
    compose.add_decay(method, weight_decay, mask),
    compose.descend(method, direction, learning_rate),
  )
  return step_8bit.add(
    method,
    compose.finish(method, compose.skip_entries(step, jnp.isfinite), mask),
    op,
    lambda _, rate, scale: op.Scalars(rate, momentum, weight_decay, scale),
    learning_rate=learning_rate,
    mask=mask,
    block_size=block_size,
    block_layout=block_layout,
    sign_repair=sign_repair,
  )


def routes(params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  return describe_bits("momentum", params, options)
