"""Metrics of what is inside a model, in place of what it returns.

Importing this module must not import jax: `normjax list` reads the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
  from normjax.types import Array


class OfActivations(NamedTuple):
  """What a metric sums over the activations of an evaluation.

  A mean per example would be too large: the covariance of d features has d^2
  numbers for each token. So the function sums by itself, weights included, and
  `Metric.finish` gets the sum over all batches, in float64.

  Attributes:
    pattern: a regular expression, as `log.probes` has them; it chooses
      "activation/<path>".
    sums: ([activations that were chosen], batch, constants) -> an array that
      adds up over batches; padding has weight 0.
    constants: data set -> what `sums` and `counted` need to know of it; it can
      be hashed.
    least: shape of the sum -> examples without which it says little.
    counted: (batch, constants) -> examples of the batch that it is of.
  """

  pattern: str
  sums: Callable[[list[Array], Mapping[str, Any], Any], Array]
  constants: Callable[[Any], Any]
  least: Callable[[tuple[int, ...]], int]
  counted: Callable[[Mapping[str, Any], Any], float]


class Bound(NamedTuple):
  """The same on a data set: constants are what it says."""

  of: OfActivations
  constants: Any

  def chosen(self, features: Mapping[str, Array]) -> list[Array]:
    """The activations that the pattern chooses, by path."""
    import re

    found = [
      name
      for name in features
      if name.startswith("activation/") and re.search(self.of.pattern, name)
    ]
    return [features[name] for name in found]
