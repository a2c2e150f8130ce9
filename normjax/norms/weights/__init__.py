"""Norms of weights: what a kernel becomes before it meets x.

`make("weight_standardization")` is a `WeightNorm`; `weight_norm.init(kernel)`
makes its variables and `weight_norm.apply(variables, kernel)` the kernel that
the layer multiplies by. A new one is a file here and a line of `TABLE`.
"""

from collections.abc import Mapping
from typing import Any

from normjax.norms.weights.base import WeightNorm, WeightNormSpec
from normjax.registry import Registry

__all__ = [
  "TABLE",
  "WeightNorm",
  "WeightNormSpec",
  "make",
  "names",
  "resolve",
]

TABLE: Mapping[str, str] = {
  "weight_standardization": (
    "normjax.norms.weights.standardization:weight_standardization"
  ),
  "scaled_weight_standardization": (
    "normjax.norms.weights.standardization:scaled_weight_standardization"
  ),
  "weight_norm": "normjax.norms.weights.weight_norm:weight_norm",
  "spectral_norm": "normjax.norms.weights.spectral_norm:spectral_norm",
}

_REGISTRY = Registry("weight norm", TABLE, from_outside=True, makes=WeightNorm)


def names() -> tuple[str, ...]:
  """The names of all norms of weights."""
  return _REGISTRY.names()


def make(name: str, **options: Any) -> WeightNorm:
  """The norm of weights called `name`.

  Raises:
    UnknownNameError: no such norm.
    UserError: an option that the norm does not have, or a bad value.
  """
  return _REGISTRY.make(name, **options)


def resolve(spec: WeightNormSpec) -> WeightNorm:
  """A norm from "name", "name(option=value)", a mapping, or itself.

  A mapping is `{"name": ..., **options}`.

  Raises:
    UserError: a mapping without "name", or what `make` raises.
    TypeError: anything else.
  """
  return spec if isinstance(spec, WeightNorm) else _REGISTRY.resolve(spec)
