"""What a run's parameters are held in: `train.param_dtype`, `param_rounding`.

Held in 16 bits they are read as float32: layers compute, and gradients are, in
what they were. `optim.rounded_parameters` moves them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from normjax import configure, errors, optim
from normjax.types import Array, Hyper, PyTree

DTYPE, ROUNDING = "train.param_dtype", "train.param_rounding"
WIDE = "float32"


def check(config: configure.ConfigDict) -> None:
  """Refuses a rounding that nothing would take.

  Raises:
    UserError: parameters are float32.
  """
  rounding = configure.optional(config, ROUNDING)
  is_wide = configure.optional(config, DTYPE) == WIDE
  if is_wide and rounding != configure.OPTIONAL[ROUNDING]:
    raise errors.UserError(
      f"{ROUNDING}={rounding!r}: parameters are {WIDE}; set"
      f" {DTYPE}='bfloat16', or leave it at"
      f" {configure.OPTIONAL[ROUNDING]!r}."
    )


def make_optimizer(
  config: configure.ConfigDict, make: Callable[..., Any]
) -> Callable[..., Any]:
  """`make`, whose optimizers then move parameters of this dtype.

  Args:
    config: a resolved config.
    make: (scalars, fraction of the peak learning rate = 1) -> optax transform.
  """
  if configure.optional(config, DTYPE) == WIDE:
    return make
  rounding = configure.optional(config, ROUNDING)

  def made(hyper: Hyper, fraction: Array | float = 1.0) -> Any:
    inner = make(hyper, fraction)
    return optim.rounded_parameters(inner, rounding, seed=hyper["seed"])

  return made


def narrow(params: PyTree, dtype: str) -> PyTree:
  """Parameters as they are held."""
  if dtype == WIDE:
    return params
  return jax.tree.map(
    lambda w: w.astype(dtype) if w.dtype == jnp.float32 else w, params
  )


def widen(params: PyTree) -> PyTree:
  """Parameters as they are read; the same where they are held so."""
  return jax.tree.map(
    lambda w: w.astype(WIDE) if w.dtype == jnp.bfloat16 else w, params
  )
