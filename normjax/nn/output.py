"""What a model returns: logits, alone or with more."""

from collections.abc import Mapping
from typing import NamedTuple

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


def as_output(returned: Array | Output) -> Output:
  """The same for bare logits and for an `Output`."""
  return returned if isinstance(returned, Output) else Output(returned)
