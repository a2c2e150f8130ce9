"""AdamW with moments of 4 bits: torchao's, and repairs of it.

pytorch/ao, torchao/optim, BSD-3-Clause; arXiv:2309.01507 without its rank-1
scales. Preconditioner-space rounding and calibrated scales: arXiv:2610.12444
(nubank/adamw4bit, Apache-2.0). Both codes were read; of the papers, what others
quote of them.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from normjax import errors, validate
from normjax.optim import codebooks, groups, safe
from normjax.optim.adam_8bit import guarded_adam, without_bad
from normjax.optim.held import ROUNDINGS
from normjax.optim.quantize_state import coding, describe_bits, hold
from normjax.types import Array, PyTree

__all__ = ["adamw_4bit", "scale_by_adam_4bit"]

PRECONDITIONER = "preconditioner"


@validate.options
def scale_by_adam_4bit(
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  block_size: int | None = None,
  min_size: int | None = None,
  block_layout: str = "rows",
  keep: str | None = groups.EMBEDDING_NAMES,
  signed_code: str = "dynamic4",
  unsigned_code: str = "linear4",
  signed_rounding: str = "nearest",
  unsigned_rounding: str = "nearest",
  calibrated: bool = False,
  seed: int | Array = 0,
) -> optax.GradientTransformationExtraArgs:
  """Adam's direction from moments held in 4 bits.

  The state is that of `quantize_state`, of `optax.ScaleByAdamState`. Arguments
  as in `adamw_4bit`.
  """
  method = "scale_by_adam_4bit"
  validate.betas(method, b1=b1, b2=b2)
  validate.scalars(method, eps=eps)
  held = coding(
    method,
    bits=4,
    block_size=block_size,
    min_size=min_size,
    block_layout=block_layout,
    keep=keep,
    signed_code=signed_code,
    unsigned_code=unsigned_code,
    signed_rounding=signed_rounding,
    unsigned_rounding=unsigned_rounding,
    calibrated=calibrated,
    roundings=(*ROUNDINGS, PRECONDITIONER),
    non_negative=("nu",),
    seed=seed,
  )
  if calibrated and codebooks.bits(unsigned_code) == 8:
    raise errors.UserError(
      f"{method}: calibrated=True: unsigned_code={unsigned_code!r} has 8 bits;"
      " allowed: False."
    )
  adam = guarded_adam(b1, b2, eps)
  if unsigned_rounding != PRECONDITIONER:
    return hold(method, adam, held, elementwise=True)

  def correction(fresh):
    return safe.bias_correction(b2, fresh.count, jnp.float32), eps

  def reread(fresh, stored):
    def direction(m, v):
      first, second = (
        safe.bias_correction(b, fresh.count, m.dtype) for b in (b1, b2)
      )
      return safe.divide(m / first, jnp.sqrt(v / second) + eps)

    return jax.tree.map(direction, fresh.mu, stored.nu)

  return hold(
    method,
    adam,
    held,
    elementwise=True,
    correction=correction,
    reread=reread,
  )


@validate.options
def adamw_4bit(
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
  signed_code: str = "dynamic4",
  unsigned_code: str = "linear4",
  signed_rounding: str = "nearest",
  unsigned_rounding: str = "nearest",
  calibrated: bool = False,
  seed: int | Array = 0,
) -> optax.GradientTransformationExtraArgs:
  """AdamW whose moments are held in 4 bits, 1.0625 bytes per parameter.

      m = b1 m + (1 - b1) g            v = b2 v + (1 - b2) g^2
      w -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + wd w)
      m, v = quantize(m), quantize(v)

  As torchao's `AdamW4bit`: blocks of 128, the step from moments that are not
  yet rounded, arithmetic in float32. m has no -1 (`dynamic4`): a negative
  extreme keeps .303 of itself over ten roundings. v has no 0 (`linear4`): what
  is small beside its block's largest is taken for a 16th of that, so that steps
  there are too short, 7.7 times where g^2 is a 1000th. It learns slower than
  AdamW: by 0.02 to 0.05 nats in arXiv:2610.12444, table 4, which diverged at
  2.7 billion parameters. Other codes repair it:

      ZIP-SR    signed_code="nf4", unsigned_code="dynamic4",
                unsigned_rounding="preconditioner"
      ZE-EDEN   signed_code="nf4", unsigned_code="dynamic4_nonzero",
                calibrated=True

  are the two of that paper, but for the first moment of its language-model
  head, which it rounds at random over the last tenth of training. With
  "preconditioner" the step divides by the v that is stored, as in its code;
  `codebooks.Rounding` has the rule. `signed_code="dynamic4_closed"` has a -1.

  Differences from torchao: those that `quantize_state` names; blocks are runs
  of the last axis and embeddings keep 32 bits unless
  `block_layout="flat", keep=None`; an entry whose gradient is NaN or infinite,
  or has a square that is, does not move, and its moments become 0.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added outside the square root, after the bias correction; >= 0.
    weight_decay: rate of the decay, >= 0.
    mask: which leaves decay: None (all, as in torchao), "default" (matrices
      and embeddings), a tree of booleans or a function.
    block_size: entries that share a float32 scale, even, >= 2; None stands for
      128.
    min_size: leaves with fewer entries, over all devices, keep float32 moments,
      as do those whose last axis is odd; None stands for 4096.
    block_layout: "rows" cuts the last axis, "flat" the leaf in C order.
    keep: regular expression on paths that keep float32 moments, by default
      embeddings; None for none.
    signed_code: of m: "dynamic4", "dynamic4_closed", "nf4", or one of 8 bits.
    unsigned_code: of v: "linear4", "dynamic4", "dynamic4_nonzero", or one of 8
      bits.
    signed_rounding: of m: "nearest" or "stochastic".
    unsigned_rounding: of v: "nearest", "stochastic" or "preconditioner". With a
      code that has a 0 the first two let steps explode.
    calibrated: whether v's scales are fitted to their blocks (EDEN).
    seed: of what is drawn, >= 0, may be traced.

  Raises:
    UserError: a concrete number out of range, a mask of another structure, a
      code that has no such map.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.mean((w - 1) ** 2)
    >>> tx = optim.adamw_4bit(0.1)
    >>> w = jnp.linspace(-2, 2, 4096).reshape(16, 256)
    >>> state = tx.init(w)
    >>> optim.state_bytes(state) / w.size < 1.07
    True
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    2.09
    1.88
    1.69
  """
  direction = scale_by_adam_4bit(
    b1,
    b2,
    eps,
    block_size=block_size,
    min_size=min_size,
    block_layout=block_layout,
    keep=keep,
    signed_code=signed_code,
    unsigned_code=unsigned_code,
    signed_rounding=signed_rounding,
    unsigned_rounding=unsigned_rounding,
    calibrated=calibrated,
    seed=seed,
  )
  return without_bad("adamw_4bit", direction, learning_rate, weight_decay, mask)


def routes(params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  return describe_bits("adamw", params, options, bits=4)
