"""An input norm of attention that differs for queries and keys and for values.

Removing a norm for one and not yet for the other (arXiv:2507.02559) takes two
outputs of one norm, with one gain, one offset and one average deviation.
"""

from typing import Any, NamedTuple

from normjax.nn import given
from normjax.nn.norm_layer import NormLayer
from normjax.nn.variables import own_variables
from normjax.norms import fake_layer_norm, modes
from normjax.types import Array


class Paths(NamedTuple):
  """What an attention may be given in place of one input."""

  query_key: Array
  value: Array


class TwoPathNorm(NormLayer):
  """A `fake_layer_norm` that gives `Paths`."""

  def __call__(
    self,
    x: Array,
    *,
    train: modes.Train = None,
    mask: Array | None = None,
    context: Any = None,
  ) -> Any:
    """As `NormLayer`, for both paths; the statistics move once."""
    mode = modes.resolve(train, self)
    site = context or given.to(self.norm) or fake_layer_norm.Site()
    before = own_variables(self)
    found = []
    for path in (fake_layer_norm.QUERY_KEY, fake_layer_norm.VALUE):
      y, stats = self.norm.apply(
        before, x, train=mode, mask=mask, context=site._replace(path=path)
      )
      found.append(y if self.dtype is None else y.astype(self.dtype))
    if mode.update:
      for name, value in stats.items():
        getattr(self, name)[...] = value
    return Paths(*found)
