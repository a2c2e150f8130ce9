"""What a conversion of a model saves, counted; and whether it is the same."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors
from normjax.nn import calling
from normjax.nn import variables as nn_variables
from normjax.nn.conv import Conv
from normjax.nn.output import as_output
from normjax.types import Array

_COMPUTES = (nnx.Linear, nnx.LinearGeneral, nnx.Conv, Conv)


class Cost(NamedTuple):
  """Of one call in evaluation, as the compiler counts them for this device.

  Attributes:
    operations: of floating point.
    bytes: that its operations read and write, intermediate results included.
  """

  operations: float
  bytes: float


class Account(NamedTuple):
  """What was folded and saved; each pair is (before, after).

  Attributes:
    folded: paths of the norms that were folded, and of readers' own gains.
    left: why others were not, by path.
    parameters: how many numbers the model holds, statistics included.
    parameter_bytes: in memory.
    operations: of one call; None without inputs.
    moved_bytes: of one call, see `Cost`; None without inputs.
    largest_difference: of the outputs, over their largest magnitude; None
      without inputs.
  """

  folded: tuple[str, ...]
  left: Mapping[str, str]
  parameters: tuple[int, int]
  parameter_bytes: tuple[int, int]
  operations: tuple[float, float] | None = None
  moved_bytes: tuple[float, float] | None = None
  largest_difference: float | None = None

  def __str__(self) -> str:
    """A few lines: what was saved, then what was left and why."""
    lines = [
      f"folded {len(self.folded)} gains and norms, left {len(self.left)}"
    ]
    for name in ("parameters", "parameter_bytes", "operations", "moved_bytes"):
      pair = getattr(self, name)
      if pair is not None:
        lines.append(f"{name}: {pair[0]:.0f} -> {pair[1]:.0f}")
    if self.largest_difference is not None:
      lines.append(f"largest difference: {self.largest_difference:.1e}")
    lines += [f"left {path}: {why}" for path, why in self.left.items()]
    return "\n".join(lines)


def make(
  before: nnx.Module,
  after: nnx.Module,
  inputs: Any,
  folded: tuple[str, ...],
  left: Mapping[str, str],
) -> Account:
  """The account of a conversion; compares the models where there are inputs.

  Raises:
    UserError: outputs that differ by more than rounding.
  """
  sizes = [_sizes(model) for model in (before, after)]
  numbers, in_memory = zip(*sizes, strict=True)
  account = Account(folded, left, numbers, in_memory)
  if inputs is None:
    return account
  first, second = (called(model, inputs) for model in (before, after))
  return account._replace(
    operations=(first.cost.operations, second.cost.operations),
    moved_bytes=(first.cost.bytes, second.cost.bytes),
    largest_difference=_difference(before, first.logits, second.logits),
  )


def check_same(before: nnx.Module, after: nnx.Module, inputs: Any) -> float:
  """The largest difference of two models' outputs, over the largest output.

  Args:
    before: the model that was converted.
    after: what it became.
    inputs: of a call in evaluation.

  Raises:
    UserError: more than the square root of the unit roundoff of what the model
      computes in, or keeps its parameters in, half of the digits: it says of
      itself what is not so.
  """
  logits = [called(model, inputs).logits for model in (before, after)]
  return _difference(before, *logits)


class Called(NamedTuple):
  """A call of a model in evaluation: its logits, and what it cost."""

  logits: Array
  cost: Cost


def called(model: nnx.Module, inputs: Any) -> Called:
  """Compiles a call of the model in evaluation, and runs it once."""
  structure, variables = nn_variables.split(model)

  def logits(variables: Any, inputs: Any) -> Any:
    module = nn_variables.merge(structure, variables)
    return as_output(calling.call(module, inputs, train=False)).logits

  compiled = jax.jit(logits).lower(variables, inputs).compile()
  counted = compiled.cost_analysis() or {}
  return Called(
    compiled(variables, inputs),
    Cost(
      counted.get("flops", math.nan), counted.get("bytes accessed", math.nan)
    ),
  )


def _difference(before: nnx.Module, first: Array, second: Array) -> float:
  size = jnp.maximum(jnp.max(jnp.abs(first)), jnp.finfo(first.dtype).tiny)
  largest = float(jnp.max(jnp.abs(first - second)) / size)
  allowed = math.sqrt(max(jnp.finfo(d).eps for d in _dtypes(before, first)))
  if not largest <= allowed:
    raise errors.UserError(
      f"the converted {type(before).__name__} gives other outputs: they differ"
      f" by {largest:.1e} of the largest, and rounding by less than"
      f" {allowed:.1e}. What it says of its norms or parameters"
      " (norm_neighbours, parameter_roles) is not what its call does."
    )
  return largest


def _dtypes(model: nnx.Module, logits: Array) -> set[Any]:
  """Those that round: what the model computes in, and keeps numbers in."""
  said = {
    jnp.dtype(module.dtype)
    for _, module in nnx.iter_modules(model)
    if isinstance(module, _COMPUTES) and module.dtype
  }
  kept = {leaf.dtype for leaf in jax.tree.leaves(nn_variables.split(model)[1])}
  return {
    dtype
    for dtype in {logits.dtype, *said, *kept}
    if jnp.issubdtype(dtype, jnp.floating)
  }


def _sizes(model: nnx.Module) -> tuple[int, int]:
  leaves = jax.tree.leaves(nn_variables.split(model)[1])
  return (
    sum(leaf.size for leaf in leaves),
    sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
  )
