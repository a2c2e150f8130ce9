"""Heads: the last layer of a classifier, by name.

`make("normalized_softmax")` is a `Head`, pure functions with explicit
variables: `head.init(key, features, classes)` makes them, and
`head.apply(variables, x)` gives logits and embeddings. `layer` is the Flax
module; `model.head` of a config names one. A new head is a file here and a line
of `TABLE`.
"""

from collections.abc import Mapping
from typing import Any

from normjax import errors
from normjax.registry import Registry
from normjax.similarity.heads.base import Compared, Head, HeadSpec

__all__ = [
  "TABLE",
  "Compared",
  "Head",
  "HeadSpec",
  "layer",
  "make",
  "names",
  "resolve",
]

TABLE: Mapping[str, str] = {
  "linear": "normjax.similarity.heads.linear:linear",
  "normalized_softmax": (
    "normjax.similarity.heads.normalized_softmax:normalized_softmax"
  ),
  "equiangular": "normjax.similarity.heads.equiangular:equiangular",
  "prototype": "normjax.similarity.heads.prototype:prototype",
}

_REGISTRY = Registry("head", TABLE, from_outside=True, makes=Head)


def names() -> tuple[str, ...]:
  """The names of all heads."""
  return _REGISTRY.names()


def make(name: str, **options: Any) -> Head:
  """The head called `name`; options that are left out are the paper's.

  Raises:
    UnknownNameError: no such head.
    UserError: an option that the head does not have, or a bad value.
  """
  return _REGISTRY.make(name, **options)


def resolve(spec: HeadSpec) -> Head:
  """A head from "name", "name(option=value)", a mapping, or itself.

  Raises:
    UserError: a mapping without "name", or what `make` raises.
    TypeError: anything else.
  """
  return spec if isinstance(spec, Head) else _REGISTRY.resolve(spec)


def layer(
  spec: HeadSpec, features: int, classes: int, *, rngs: Any, **linear: Any
) -> Any:
  """The Flax module of a head, as models have it at `head`.

  Args:
    spec: see `resolve`.
    features: of what it reads, (b, features).
    classes: of the logits.
    rngs: an nnx.Rngs with the stream "params".
    **linear: of nnx.Linear, for the head "linear": a model's own initializer
      and its compute dtype. All others compute in float32.

  Returns:
    A module that gives logits ("linear"), or an `nn.output.Output` with the
    feature "embedding".

  Raises:
    UserError: what `resolve` raises, or sizes that do not fit; the message
      begins with the option, head=spec.
  """
  try:
    head = resolve(spec)
    if head.layer_fn is not None:
      return head.layer_fn(features, classes, rngs=rngs, **linear)
    from normjax.similarity.heads.head_layer import HeadLayer  # Late: Flax.

    return HeadLayer(head, features, classes, rngs=rngs)
  except errors.UserError as error:
    raise type(error)(f"head={spec!r}: {error}") from error
