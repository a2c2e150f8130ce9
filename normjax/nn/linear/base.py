"""What holds the matrices of a transformer's blocks, as data."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax.numpy as jnp
from flax import nnx

from normjax import validate
from normjax.nn import roles
from normjax.nn.linear.restarting import Restarts
from normjax.types import Array

# Sizes of the axes that a map reads, and of those that it gives.
Axes = int | tuple[int, ...]


# Of A (inputs, rank) and B (rank, outputs).
FACTOR_ROLES = {
  "lora_a": roles.kernel("in", "rank"),
  "lora_b": roles.kernel("rank", "out"),
}


class Untrained(nnx.Variable):
  """Part of a matrix that no gradient moves; checkpoints have it."""


class Maker(Protocol):
  """Makes the layer of one matrix."""

  def __call__(
    self,
    inputs: Axes,
    outputs: Axes,
    *,
    use_bias: bool,
    kernel_init: nnx.Initializer,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
  ) -> nnx.Module:
    """A module that maps (…, *inputs) to (…, *outputs)."""
    ...


@dataclasses.dataclass(frozen=True)
class Linear:
  """How a matrix is held and trained.

  Attributes:
    name: as in a config.
    make: of the layer.
    options: with which it was made; two with the same name and options are
      one, so that layers made by either are one program.
    has_kernel: whether the layer has the matrix itself as `kernel`.
    restarts: when its layers start again; None: never.
  """

  name: str
  make: Maker = dataclasses.field(compare=False)
  options: Mapping[str, Any] = dataclasses.field(
    default_factory=dict, hash=False
  )
  has_kernel: bool = False
  restarts: Restarts | None = None

  @property
  def obstacle(self) -> str:
    """Why nothing can be folded into the matrix; "" where it can."""
    return "" if self.has_kernel else f"linear={self.name!r}: no kernel"


def sizes(axes: Axes) -> tuple[int, ...]:
  """The axes as a tuple."""
  return (axes,) if isinstance(axes, int) else tuple(axes)


def rows(
  x: Array,
  inputs: tuple[int, ...],
  outputs: tuple[int, ...],
  apply: Callable[[Array], Array],
) -> Array:
  """`apply` of (…, in) -> (…, out), on (…, *inputs) -> (…, *outputs)."""
  leading = x.shape[: x.ndim - len(inputs)]
  y = apply(x.reshape(*leading, math.prod(inputs)))
  return y.reshape(*leading, *outputs)


def uniform(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
  """Entries of U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's own start.

  That is its kaiming_uniform_ with a = sqrt(5).
  """
  bound = 1 / math.sqrt(fan_in)
  return nnx.initializers.uniform(2 * bound)(key, shape, jnp.float32) - bound


def check_rank(rank: int, inputs: int, outputs: int) -> None:
  """Raises UserError where a matrix has no such rank."""
  if rank > min(inputs, outputs):
    validate.refuse(
      "linear",
      "rank",
      rank,
      f"at most {min(inputs, outputs)}, the smaller side of a matrix"
      f" ({inputs}, {outputs})",
    )
