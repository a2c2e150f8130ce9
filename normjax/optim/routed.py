"""The alias of a matrix method, whose other leaves an Adam moves."""

import dataclasses
from collections.abc import Callable
from typing import Any

import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import compose
from normjax.optim import dims as dims_lib
from normjax.optim.adamw import scale_by_adam
from normjax.types import Array


@dataclasses.dataclass(frozen=True)
class Fallback:
  """What moves the leaves without dims: the aliases' options of that name.

  Attributes:
    transform: what the user gave; None for an Adam, of the options that follow.
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment.
    b2: decay of the second moment.
    eps: as that Adam adds it.
    weight_decay: rate of the decay.
    mu_dtype: of the stored first moment.
    nu_dtype: of the stored second moment.
  """

  transform: optax.GradientTransformation | None
  learning_rate: optax.ScalarOrSchedule | None
  b1: float | Array | None
  b2: float | Array | None
  eps: float | Array | None
  weight_decay: float | Array | None
  mu_dtype: DTypeLike | None
  nu_dtype: DTypeLike | None

  def filled(self, **values: Any) -> "Fallback":
    """With these values where it has None."""
    missing = {k: v for k, v in values.items() if getattr(self, k) is None}
    return dataclasses.replace(self, **missing)


def optimizer(
  method: str,
  direction: Callable[..., optax.GradientTransformation],
  learning_rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float | Array,
  mask: Any,
  dims: dims_lib.DimsSpec,
  fallback: Fallback,
  adam: Callable[..., optax.GradientTransformation] = scale_by_adam,
  descend: Callable[..., optax.GradientTransformation] = compose.descend,
) -> optax.GradientTransformationExtraArgs:
  """`direction` where a leaf has dims, elsewhere `fallback`.

  Args:
    method: the alias, for messages.
    direction: a transform without sign and learning rate, made from `dims`.
    learning_rate: number, traced scalar or schedule.
    weight_decay: of the matrices.
    mask: see `masks.resolve_mask`.
    dims: see `dims.resolve`.
    fallback: its learning rate and decay are the matrices' where it has None.
    adam: the fallback's direction, of (b1, b2, eps) and the moments' dtypes.
    descend: from a direction to steps, of matrices and fallback alike:
      `compose.descend` or `compose.descend_then_decay`.
  """
  other = fallback.filled(
    learning_rate=learning_rate, weight_decay=weight_decay
  )

  def transforms(dims, mask):
    matrices = descend(
      method,
      direction(dims=dims),
      learning_rate,
      weight_decay=weight_decay,
      mask=mask,
    )
    if other.transform is not None:
      return matrices, other.transform
    validate.learning_rate(
      method, other.learning_rate, "fallback_learning_rate"
    )
    validate.betas(method, fallback_b1=other.b1, fallback_b2=other.b2)
    validate.scalars(
      method, fallback_eps=other.eps, fallback_weight_decay=other.weight_decay
    )
    moments = adam(
      other.b1,
      other.b2,
      other.eps,
      mu_dtype=other.mu_dtype,
      nu_dtype=other.nu_dtype,
    )
    return matrices, descend(
      method,
      moments,
      other.learning_rate,
      weight_decay=other.weight_decay,
      mask=mask,
    )

  return compose.finish(
    method, compose.route(method, transforms, dims, mask), mask
  )
