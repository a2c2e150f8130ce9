"""How attention mixes values over positions, by name.

`make("softmax_sink")` is a `Mixing`, pure functions with explicit parameters;
`normjax.nn.attention.Attention` has the projections around it. A new method is
a file here and a line of `TABLE`.
"""

from collections.abc import Mapping
from typing import Any

from normjax import errors
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

_REGISTRY = Registry("mixing", TABLE)


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
  """A method from a name, from `{"name": ..., **options}`, or itself.

  Raises:
    UserError: neither of these, or what `make` raises.
  """
  if isinstance(spec, Mixing):
    return spec
  if isinstance(spec, str):
    return make(spec)
  # A ConfigDict has a mapping's methods without being a Mapping.
  options = {key: spec[key] for key in spec} if hasattr(spec, "keys") else {}
  if "name" not in options:
    raise errors.UserError(
      f"mixing={spec!r} must be a name or a mapping with 'name';"
      f" known: {', '.join(names())}."
    )
  return make(options.pop("name"), **options)
