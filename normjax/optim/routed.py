"""The alias of a matrix method, whose other leaves AdamW moves."""

from collections.abc import Callable
from typing import Any

import optax
from jax.typing import DTypeLike

from normjax.optim import compose, validate
from normjax.optim import dims as dims_lib
from normjax.optim.adamw import fallback_adamw
from normjax.types import Array


def with_adamw(
  method: str,
  direction: Callable[..., optax.GradientTransformation],
  learning_rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float | Array,
  mask: Any,
  mu_dtype: DTypeLike | None,
  nu_dtype: DTypeLike | None,
  dims: dims_lib.DimsSpec,
  fallback: optax.GradientTransformation | None,
  fallback_learning_rate: optax.ScalarOrSchedule | None,
  fallback_b1: float | Array,
  fallback_b2: float | Array,
  fallback_eps: float | Array,
  fallback_weight_decay: float | Array | None,
) -> optax.GradientTransformationExtraArgs:
  """`direction` where a leaf has dims, elsewhere `fallback`.

  Arguments as in the aliases: `direction` is made from `dims`; a fallback of
  None is AdamW, whose learning rate and decay are the matrices' where they are
  None.
  """
  validate.learning_rate(method, learning_rate)

  def transforms(dims, mask):
    matrices = compose.descend(
      method,
      direction(dims=dims),
      learning_rate,
      weight_decay=weight_decay,
      mask=mask,
    )
    if fallback is not None:
      return matrices, fallback
    return matrices, fallback_adamw(
      method,
      learning_rate
      if fallback_learning_rate is None
      else fallback_learning_rate,
      weight_decay if fallback_weight_decay is None else fallback_weight_decay,
      b1=fallback_b1,
      b2=fallback_b2,
      eps=fallback_eps,
      mask=mask,
      mu_dtype=mu_dtype,
      nu_dtype=nu_dtype,
    )

  return compose.finish(
    method, compose.route(method, transforms, dims, mask), mask
  )
