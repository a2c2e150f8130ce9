"""The matrix products of optimizers, at a stated precision.

How far a float32 operand is rounded before it is multiplied, jax leaves to the
platform: to TF32 on a GPU, to bfloat16 on a TPU. `train.matmul_precision` says
it for a model, `jax.default_matmul_precision` for a loop of one's own. An
optimizer must not depend on either: a basis that is orthogonal to three digits
is none. Its products are all made here, and a test holds every optimizer to it.
QR, SVD and eigenvectors are float32's on every platform as jax has them.
"""

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from kernels_pallas import dispatch
from normjax.optim import safe
from normjax.types import Array

# Platforms whose bfloat16 products are several times faster than float32's.
_SHORT_IS_FAST = ("gpu", "tpu")


def matmul(x: Array, y: Array) -> Array:
  """The product of the operands as they are, summed in float32 at least.

  Where it may be of bfloat16 operands, the caller casts them.

  Args:
    x: (..., i, k), of the dtype of y.
    y: (..., k, j).

  Returns:
    (..., i, j), in that dtype.
  """
  dtype = jnp.result_type(x, y)
  return jnp.matmul(
    x,
    y,
    precision=lax.Precision.HIGHEST,
    preferred_element_type=safe.compute_dtype(dtype),
  ).astype(dtype)


def newton_schulz_dtype(asked: DTypeLike | None, x: Array) -> jnp.dtype:
  """What an iteration towards the polar factor of x is computed in.

  Args:
    asked: None takes bfloat16 for a float32 x on a GPU or TPU, as the official
      code of Muon does there, and the dtype of x otherwise.
    x: the matrices.
  """
  dtype = jnp.dtype(x.dtype if asked is None else asked)
  is_fast = dispatch.target(x).platform in _SHORT_IS_FAST
  if asked is None and is_fast and dtype == jnp.float32:
    dtype = jnp.dtype(jnp.bfloat16)
  # run.json has it beside the kernels.
  dispatch.note("newton_schulz", dtype.name)
  return dtype
