"""How attention mixes values over positions, by name.

`make("softmax_sink")` is a `Mixing`, pure functions with explicit parameters;
`normjax.nn.attention.Attention` has the projections around it. A new method is
a file here and a line of `TABLE`.
"""

from collections.abc import Mapping
from typing import Any

from normjax.nn.mixing.base import Mixed, Mixing, MixingTraits
from normjax.registry import Registry

__all__ = [
  "TABLE",
  "Mixed",
  "Mixing",
  "MixingSpec",
  "MixingTraits",
  "make",
  "names",
  "resolve",
]

TABLE: Mapping[str, str] = {
  "softmax": "normjax.nn.mixing.softmax:softmax",
  "softmax_off_by_one": "normjax.nn.mixing.softmax:softmax_off_by_one",
  "softmax_sink": "normjax.nn.mixing.softmax:softmax_sink",
  "nalaformer": "normjax.nn.mixing.nalaformer:nalaformer",
  "nalaformer_paper": "normjax.nn.mixing.nalaformer:nalaformer_paper",
  "soft": "normjax.nn.mixing.soft:soft",
}

MixingSpec = str | Mapping[str, Any] | Mixing

_REGISTRY = Registry("mixing", TABLE, from_outside=True, makes=Mixing)


def names() -> tuple[str, ...]:
  """The names of all mixing methods."""
  return _REGISTRY.names()


def make(name: str, **options: Any) -> Mixing:
  """The mixing method called `name`; options left out are the paper's.

  Raises:
    UnknownNameError: no such method.
    UserError: an option that the method does not have, or a bad value.
  """
  return _REGISTRY.make(name, **options)


def resolve(spec: MixingSpec) -> Mixing:
  """A method from "name", "name(option=value)", a mapping, or itself.

  A mapping is `{"name": ..., **options}`.

  Raises:
    UserError: a mapping without "name", or what `make` raises.
    TypeError: anything else.
  """
  return spec if isinstance(spec, Mixing) else _REGISTRY.resolve(spec)
