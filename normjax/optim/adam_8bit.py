"""Adam with 8-bit moments: Dettmers et al. 2022, arXiv:2110.02861."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kernels_pallas import adam_8bit_update as op
from kernels_pallas.adam_8bit_update import rule
from normjax import validate
from normjax.optim import compose, groups, safe, step_8bit
from normjax.optim.quantize_state import describe_bits, quantize_state
from normjax.types import Array, PyTree

__all__ = ["adam_8bit", "adamw_8bit", "scale_by_adam_8bit"]


def _scalars(
  b1: float | Array,
  b2: float | Array,
  eps: float | Array,
  count: ArrayLike,
  dtype: Any,
  **others: Any,
) -> op.Scalars:
  """The numbers of the step with this count."""
  return op.Scalars(
    **{"learning_rate": 0.0, "weight_decay": 0.0, **others},
    b1=b1,
    b2=b2,
    eps=eps,
    first=1 / safe.bias_correction(b1, count, dtype),
    second=jax.lax.rsqrt(safe.bias_correction(b2, count, dtype)),
  )


def guarded_adam(
  b1: float | Array, b2: float | Array, eps: float | Array
) -> optax.GradientTransformation:
  """Adam whose moments are 0 where the gradient is no good."""

  def init(params):
    return optax.ScaleByAdamState(
      count=jnp.zeros((), jnp.int32),
      mu=compose.zeros(params, None),
      nu=compose.zeros(params, None),
    )

  def update(updates, state, params=None):
    del params
    count = optax.safe_increment(state.count)
    flat, structure = jax.tree.flatten(updates)
    rows = zip(
      flat, jax.tree.leaves(state.mu), jax.tree.leaves(state.nu), strict=True
    )
    moved = [
      rule.direction(g, m, v, _scalars(b1, b2, eps, count, g.dtype))
      for g, m, v in rows
    ]
    direction, mu, nu = (
      structure.unflatten([row[n] for row in moved]) for n in range(3)
    )
    return direction, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

  return optax.GradientTransformation(init, update)


def without_bad(
  method: str,
  direction: optax.GradientTransformation,
  learning_rate: optax.ScalarOrSchedule,
  weight_decay: float | Array,
  mask: Any,
) -> optax.GradientTransformationExtraArgs:
  """AdamW's steps; an entry whose gradient is no good stays where it is."""
  step = compose.descend(
    method, direction, learning_rate, weight_decay=weight_decay, mask=mask
  )
  return compose.finish(method, compose.skip_entries(step, rule.is_good), mask)


@validate.options
def scale_by_adam_8bit(
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  block_size: int | None = None,
  min_size: int | None = None,
  block_layout: str = "rows",
  keep: str | None = groups.EMBEDDING_NAMES,
  sign_repair: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """Adam's direction from moments held in 8 bits.

  The state is a `QuantizeState` of `optax.ScaleByAdamState`. Arguments as in
  `adam_8bit`.
  """
  validate.betas("scale_by_adam_8bit", b1=b1, b2=b2)
  validate.scalars("scale_by_adam_8bit", eps=eps)
  return quantize_state(
    guarded_adam(b1, b2, eps),
    block_size,
    min_size,
    block_layout=block_layout,
    keep=keep,
    sign_repair=sign_repair,
  )


def _alias(
  method: str,
  learning_rate: optax.ScalarOrSchedule,
  weight_decay: float | Array,
  mask: Any,
  b1: float | Array,
  b2: float | Array,
  eps: float | Array,
  *,
  block_size: int | None,
  block_layout: str,
  sign_repair: bool,
  **options: Any,
) -> optax.GradientTransformationExtraArgs:
  step = compose.descend_then_decay(
    method,
    scale_by_adam_8bit(
      b1,
      b2,
      eps,
      block_size=block_size,
      block_layout=block_layout,
      sign_repair=sign_repair,
      **options,
    ),
    learning_rate,
    weight_decay=weight_decay,
    mask=mask,
  )
  transform = compose.finish(
    method, compose.skip_entries(step, rule.is_good), mask
  )

  def numbers(count, rate, scale):
    return _scalars(
      b1,
      b2,
      eps,
      count,
      jnp.float32,
      learning_rate=rate,
      weight_decay=weight_decay,
      gradient_scale=scale,
    )

  return step_8bit.add(
    method,
    transform,
    op,
    numbers,
    learning_rate=learning_rate,
    mask=mask,
    block_size=block_size,
    block_layout=block_layout,
    sign_repair=sign_repair,
  )


@validate.options
def adam_8bit(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  weight_decay: float | Array = 0.0,
  mask: Any = None,
  block_size: int | None = None,
  min_size: int | None = None,
  block_layout: str = "rows",
  keep: str | None = groups.EMBEDDING_NAMES,
  sign_repair: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """Adam whose moments are held in 8 bits, about 2.03 bytes per parameter.

      m = b1 m + (1 - b1) g            v = b2 v + (1 - b2) g^2
      w -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps);  w -= lr wd w
      m, v = quantize(m), quantize(v)

  arXiv:2110.02861, section 2, with the numerics of bitsandbytes' `Adam8bit` on
  GPUs: the step uses the moments before they are rounded, m by the signed and
  v by the unsigned map, and the decay, decoupled, acts on the weight that has
  moved. The arithmetic is in float32, also for bfloat16 parameters.
  bitsandbytes' CPU code (0.50) differs in three places: it rounds m and v to
  65,536 even steps before it looks for the nearest value, does not repair
  signs, and decays before the step.

  Two defaults are not bitsandbytes': blocks are runs of the last axis, the
  outputs of a Flax kernel, where it cuts the flattened (outputs, inputs); and
  embeddings keep float32 moments, which there only its own embedding layers do.
  `block_layout="flat", keep=None` is its rule, on the leaf as it lies here.

  An entry whose gradient is NaN or infinite, or has a square that is, does
  not move, and its moments become 0. It is not cut, as in `adamw`: a block
  cannot hold an outlier, see `quantize_state`.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added outside the square root, after the bias correction; >= 0.
    weight_decay: rate of the decay, >= 0.
    mask: which leaves decay: None (all, as in bitsandbytes), "default"
      (matrices and embeddings), a tree of booleans or a function.
    block_size: entries that share a float32 scale, >= 1; None stands for 256.
    min_size: leaves with fewer entries, over all devices, keep float32 moments;
      None stands for 4096.
    block_layout: "rows" cuts the last axis, and codes shard as the parameter
      does; "flat" cuts the leaf in C order, as bitsandbytes does.
    keep: regular expression on paths that keep float32 moments, by default
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
    >>> tx = optim.adam_8bit(0.1)
    >>> w = jnp.linspace(-2, 2, 4096).reshape(16, 256)
    >>> state = tx.init(w)
    >>> optim.state_bytes(state) / w.size < 2.04
    True
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    2.09
    1.87
    1.67
  """
  return _alias(
    "adam_8bit",
    learning_rate,
    weight_decay,
    mask,
    b1,
    b2,
    eps,
    block_size=block_size,
    min_size=min_size,
    block_layout=block_layout,
    keep=keep,
    sign_repair=sign_repair,
  )


@validate.options
def adamw_8bit(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  weight_decay: float | Array = 1e-2,
  mask: Any = None,
  block_size: int | None = None,
  min_size: int | None = None,
  block_layout: str = "rows",
  keep: str | None = groups.EMBEDDING_NAMES,
  sign_repair: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """`adam_8bit` with a decay of 0.01: bitsandbytes' `AdamW8bit`.

  In bitsandbytes the two differ in this default only; both decouple. Arguments,
  errors and what differs from it (blocks by rows, embeddings in 32 bits) as in
  `adam_8bit`; arXiv:2110.02861, section 2.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.mean(w**2)
    >>> tx = optim.adamw_8bit(0.1)
    >>> w = jnp.linspace(-2, 2, 4096).reshape(16, 256)
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    1.14
    0.97
    0.82
  """
  return _alias(
    "adamw_8bit",
    learning_rate,
    weight_decay,
    mask,
    b1,
    b2,
    eps,
    block_size=block_size,
    min_size=min_size,
    block_layout=block_layout,
    keep=keep,
    sign_repair=sign_repair,
  )


def routes(params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  return describe_bits("adam", params, options)
