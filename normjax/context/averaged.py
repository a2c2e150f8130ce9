"""A norm whose statistics become the mean of what its calls give."""

from typing import Any

import jax.numpy as jnp

from normjax import norms
from normjax.nn import norm_sites
from normjax.nn.norm_layer import NormLayer
from normjax.nn.variables import (
  NormStat,
  attach_variables,
  own_variables,
)
from normjax.norms import modes
from normjax.types import Array, PyTree

_CALLS = "calls"


class Averaged(NormLayer):
  """In the place of a norm without memory, which knows its last call alone."""

  def __init__(
    self, norm: norms.Norm, variables: norm_sites.NormVariables, dtype: Any
  ):
    """Takes variables over.

    Args:
      norm: whose running statistics after a call are those of the call.
      variables: of it.
      dtype: of the output; None keeps the input's.
    """
    self.norm, self.dtype = norm, dtype
    attach_variables(self, variables)
    self.calls = NormStat(jnp.zeros(()))

  def __call__(
    self,
    x: Array,
    use_running_average: bool | None = None,
    *,
    train: modes.Train = None,
    mask: Array | None = None,
    context: Any = None,
  ) -> Array:
    """As `NormLayer`; the word of Flax's layers is taken, too."""
    if use_running_average is not None:
      statistics = "running" if use_running_average else "batch"
      train = norms.Mode(statistics=statistics, update=not use_running_average)
    mode = modes.resolve(train, self)
    before = without_calls(own_variables(self)["stats"])
    y = super().__call__(x, train=mode, mask=mask, context=context)
    if not mode.update:
      return y
    calls = self.calls[...] + 1
    for name, old in before.items():
      new = getattr(self, name)[...]
      if jnp.issubdtype(old.dtype, jnp.floating):
        mean = jnp.where(calls > 1, old + (new - old) / calls, new)
        getattr(self, name)[...] = mean.astype(old.dtype)
    self.calls[...] = calls
    return y


def without_calls(stats: PyTree) -> PyTree:
  """Statistics as the model had them before."""
  return {
    name: without_calls(value) if isinstance(value, dict) else value
    for name, value in stats.items()
    if name != _CALLS
  }
