"""What a model returns: logits, alone or with more."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from normjax import errors
from normjax.types import Array


class Output(NamedTuple):
  """What a model may return in place of bare logits.

  Attributes:
    logits: (b, ..., c); of a regression the predicted values.
    auxiliary_losses: scalars by name, times whatever weight the model gives
      them. They are added to what is minimized, and logged under their names.
    features: anything else by name, for objectives and metrics to read.
  """

  logits: Array
  auxiliary_losses: Mapping[str, Array] = {}
  features: Mapping[str, Array] = {}


def as_output(returned: Any) -> Output:
  """The same for bare logits and for an `Output`.

  Raises:
    UserError: it is neither, or its logits are no floats.
  """
  output = returned if isinstance(returned, Output) else Output(returned)
  logits = output.logits
  if not hasattr(logits, "shape") or not hasattr(logits, "dtype"):
    raise errors.UserError(
      f"it returns a {type(logits).__name__}; needed: the logits, an array, or"
      " normjax.nn.output.Output(logits, auxiliary_losses, features)."
    )
  if not jnp.issubdtype(logits.dtype, jnp.floating):
    raise errors.UserError(
      f"it returns logits of {logits.dtype}; needed: floats, one per class."
    )
  return output
