"""How the matrices of a transformer's blocks are held, by name.

`make("sltrain", rank=128)` is a `Linear`: it makes the layer of each matrix. A
new one is a file here and a line of `TABLE`.
"""

from collections.abc import Mapping
from typing import Any

from normjax.nn.linear.base import Linear
from normjax.registry import Registry

__all__ = ["TABLE", "Linear", "LinearSpec", "make", "names", "resolve"]

TABLE: Mapping[str, str] = {
  "dense": "normjax.nn.linear.dense:dense",
  "low_rank": "normjax.nn.linear.sparse_low_rank:low_rank",
  "sltrain": "normjax.nn.linear.sparse_low_rank:sltrain",
  "lora": "normjax.nn.linear.lora:lora",
  "relora": "normjax.nn.linear.lora:relora",
}

LinearSpec = str | Mapping[str, Any] | Linear

_REGISTRY = Registry("linear map", TABLE, from_outside=True, makes=Linear)


def names() -> tuple[str, ...]:
  """The names of all ways to hold a matrix."""
  return _REGISTRY.names()


def make(name: str, **options: Any) -> Linear:
  """The one called `name`; options left out are the paper's.

  Raises:
    UnknownNameError: no such name.
    UserError: an option that it does not have, or a bad value.
  """
  return _REGISTRY.make(name, **options)


def resolve(spec: LinearSpec) -> Linear:
  """One from "name", "name(option=value)", a mapping, or itself.

  Raises:
    UserError: a mapping without "name", or what `make` raises.
    TypeError: anything else.
  """
  return spec if isinstance(spec, Linear) else _REGISTRY.resolve(spec)
