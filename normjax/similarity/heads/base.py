"""What a head is."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from normjax import errors, validate
from normjax.similarity import matrices
from normjax.types import Array

Variables = Mapping[str, Mapping[str, Array]]


class Compared(NamedTuple):
  """What a head gives: logits (b, c), and what it compared, (b, e)."""

  logits: Array
  embedding: Array


@dataclasses.dataclass(frozen=True)
class Head:
  """A head with its options bound; equal and hashable by value.

  Attributes:
    name: its name in the table.
    options: every option with its value; passed to all functions.
    init_fn: `(key, features, classes, **options)` to a dict of the collections
      "params" and "stats" that it has. Kernels are (inputs, outputs).
    apply_fn: `(variables, x, **options)` to a `Compared`.
    imprint_fn: `(embeddings, labels, classes)` to a vector per class, (c, e),
      for the columns of the parameter "kernel"; None: classes cannot be added.
    layer_fn: as `heads.layer`, for a head with a Flax module of its own.
  """

  name: str
  options: Mapping[str, Any] = dataclasses.field(hash=False)
  init_fn: Callable[..., dict[str, dict[str, Array]]]
  apply_fn: Callable[..., Compared]
  imprint_fn: Callable[[Array, Array, int], Array] | None = None
  layer_fn: Callable[..., Any] | None = None

  def init(
    self, key: Array, features: int, classes: int
  ) -> dict[str, dict[str, Array]]:
    """New variables, float32: {"params": ..., "stats": ...}.

    Args:
      key: of what is drawn.
      features: f, of what the head reads.
      classes: c.

    Raises:
      UserError: sizes below 1, or that do not fit the options.
    """
    validate.counts(self.name, features=features, classes=classes)
    made = self.init_fn(key, features, classes, **self.options)
    return {"params": {}, "stats": {}} | made

  def apply(self, variables: Variables, x: Array) -> Compared:
    """Logits and embeddings, in float32 (float64 for float64).

    Args:
      variables: as `init` makes them.
      x: (b, f).

    Raises:
      UserError: another shape.
    """
    x_bf = matrices.check_matrix(f"{self.name}: inputs", x)
    return self.apply_fn(variables, x_bf, **self.options)

  def imprint(
    self, variables: Variables, embeddings: Array, labels: Array, classes: int
  ) -> Variables:
    """The variables with the vectors of those classes that have examples.

    All other classes keep theirs; classes beyond those that there were are
    new, and need an example each.

    Args:
      variables: as `init` makes them; they stay as they are.
      embeddings: (n, e), as `apply` gives them.
      labels: (n,), known numbers from 0 to classes - 1.
      classes: how many there are then.

    Raises:
      UserError: a head whose vectors are fixed or no class's, fewer classes
        than there were, embeddings of another dimension, or a new class without
        an example.
    """
    if self.imprint_fn is None:
      raise errors.UserError(
        f"head {self.name!r} takes no vectors from embeddings; allowed:"
        " normalized_softmax, prototype."
      )
    kernel_ec = variables["params"]["kernel"]
    x_ne = matrices.check_matrix("embeddings", embeddings)
    if x_ne.shape[1] != len(kernel_ec):
      raise errors.UserError(
        f"embeddings of shape {x_ne.shape}; allowed: (n, {len(kernel_ec)}), the"
        f" dimension of head {self.name!r}."
      )
    before = kernel_ec.shape[1]
    validate.count(self.name, "classes", classes, least=before)
    new_ec = self.imprint_fn(x_ne, labels, classes).T.astype(kernel_ec.dtype)
    found_c = np.isin(np.arange(classes), labels)
    missing = [str(c) for c in range(before, classes) if not found_c[c]]
    if missing:
      raise errors.UserError(
        f"the new classes {errors.few(missing)} have no"
        " example; allowed: at least one each."
      )
    padded_ec = jnp.pad(kernel_ec, ((0, 0), (0, classes - before)))
    kernel = jnp.where(found_c, new_ec, padded_ec)
    params = {**variables["params"], "kernel": kernel}
    return {**variables, "params": params}


HeadSpec = str | Mapping[str, Any] | Head


def uniform(key: Array, shape: tuple[int, ...], inputs: int) -> Array:
  """U(-1 / sqrt(inputs), 1 / sqrt(inputs)), torch's start of linear layers."""
  bound = inputs**-0.5
  return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def check_temperature(head: str, temperature: float) -> None:
  """Raises UserError where the temperature is not above 0."""
  validate.positive(head, temperature=temperature)


def check_dim(head: str, embedding_dim: int | None) -> None:
  """Raises UserError where a dimension is given that is none."""
  if embedding_dim is not None:
    validate.counts(head, embedding_dim=embedding_dim)
