"""AdamW with moments in FP8: torchao's (pytorch/ao, BSD-3-Clause, read)."""

from collections.abc import Mapping
from typing import Any

import optax

from normjax import validate
from normjax.optim import codebooks, groups
from normjax.optim.adam_8bit import guarded_adam, without_bad
from normjax.optim.quantize_state import coding, describe_bits, hold
from normjax.types import Array, PyTree

__all__ = ["adamw_fp8"]


@validate.options
def adamw_fp8(
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
) -> optax.GradientTransformationExtraArgs:
  """`adamw_4bit` with moments in FP8, e4m3: torchao's `AdamWFp8`.

  About 2.03 bytes per parameter: a scale per block of 256, whose largest entry
  is 448. v becomes 0 below 2e-6 of its block's largest, m below the root of
  that; beside an m that is not 0 the step is then up to
  |m| / (sqrt(1 - b2) |g|) rates long, 30 where g is small for once. Arguments
  and errors as in `adamw_4bit`, but that `block_size` stands for 256.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.mean(w**2)
    >>> tx = optim.adamw_fp8(0.1)
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
  method = "adamw_fp8"
  validate.betas(method, b1=b1, b2=b2)
  validate.scalars(method, eps=eps)
  held = coding(
    method,
    bits=8,
    block_size=block_size,
    min_size=min_size,
    block_layout=block_layout,
    keep=keep,
    signed_code=codebooks.E4M3,
    unsigned_code=codebooks.E4M3,
    signed_rounding="nearest",
    unsigned_rounding="nearest",
    non_negative=("nu",),
  )
  adam = guarded_adam(b1, b2, eps)
  direction = hold(method, adam, held, elementwise=True)
  return without_bad(method, direction, learning_rate, weight_decay, mask)


def routes(params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  return describe_bits("adamw", params, options)
