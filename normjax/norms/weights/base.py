"""What a norm of weights is, and the checks that they share.

Importing this module must not import jax, as `normjax.norms.base`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from normjax import errors
from normjax.norms import modes

if TYPE_CHECKING:
  from normjax.types import Array

Variables = modes.Variables


@dataclasses.dataclass(frozen=True)
class WeightNorm:
  """A norm of weights with its options bound; equal and hashable by value.

  Kernels have their outputs on the last axis: (inputs, outputs), or HWIO with
  the inputs of one group. A filter is what makes one output: all other axes.

  Attributes:
    name: its name in the table.
    options: every option with its value; passed to both functions.
    init_fn: `(kernel, key, **options)` to a dict of those collections
      ("params", "stats") that it has.
    apply_fn: `(variables, kernel, *, mode, **options)` to `(kernel, stats)`, of
      which `modes.carry_out` says more.
    least_fan_in: how many weights a filter must have.
    needs_key: whether `init` draws random numbers.
  """

  name: str
  options: Mapping[str, Any] = dataclasses.field(hash=False)
  init_fn: Callable[..., dict[str, dict[str, Any]]]
  apply_fn: Callable[..., tuple[Array, Mapping[str, Any]]]
  least_fan_in: int = 1
  needs_key: bool = False

  def init(
    self, kernel: Array, key: Array | None = None
  ) -> dict[str, dict[str, Any]]:
    """New variables.

    Args:
      kernel: as it is at first, (inputs, outputs) or (y, x, inputs, outputs).
      key: where random numbers come from, for one with `needs_key`; others
        do not read it. None is `jax.random.key(0)`.

    Returns:
      {"params": ..., "stats": ...}, each a dict by name, float32 (float64 for
      a float64 kernel), empty where there are none.

    Raises:
      UserError: a kernel without two axes, or with too small filters.
    """
    self._check(kernel)
    empty = {"params": {}, "stats": {}}
    return empty | self.init_fn(kernel, key, **self.options)

  def apply(
    self, variables: Variables, kernel: Array, *, train: modes.Train = True
  ) -> tuple[Array, Mapping[str, Any]]:
    """Normalises a kernel.

    Args:
      variables: as `init` makes them; empty collections may be left out.
      kernel: what the optimizer holds, any floating dtype.
      train: whether the statistics advance, or a `Mode`. A kernel has no
        batch: "blended" statistics are the running ones.

    Returns:
      The kernel that x meets, with the shape and dtype of `kernel`, and the
      new variables["stats"].

    Raises:
      UserError: a kernel as in `init`, or variables of another kernel.
      TypeError: a kernel that is not floating.
    """
    self._check(kernel)
    variables = {"params": {}, "stats": {}, **variables}

    def call(variables: Variables, mode: modes.Mode):
      return self.apply_fn(variables, kernel, mode=mode, **self.options)

    return modes.carry_out(call, variables, modes.resolve(train))

  def _check(self, kernel: Array) -> None:
    if kernel.ndim < 2:
      raise errors.UserError(
        f"{self.name} is for kernels with inputs and outputs, (i, o) or"
        f" (y, x, i, o); got shape {kernel.shape}."
      )
    fan_in = math.prod(kernel.shape[:-1])
    if fan_in < self.least_fan_in:
      raise errors.UserError(
        f"{self.name} needs at least {self.least_fan_in} weights in a filter;"
        f" a kernel of shape {kernel.shape} has {fan_in}."
      )


WeightNormSpec = str | Mapping[str, Any] | WeightNorm


def checked_variables(
  norm: str, variables: Variables, collection: str, shapes: Mapping[str, Any]
) -> list[Any]:
  """The variables of a collection, in the order of `shapes`.

  Raises:
    UserError: one is missing or has another shape.
  """
  values = variables[collection]
  for name, shape in shapes.items():
    if name not in values or values[name].shape != shape:
      got = values[name].shape if name in values else "none"
      raise errors.UserError(
        f"{norm} needs {name!r} of shape {shape} in variables[{collection!r}],"
        f" as init makes it for this kernel; got {got}."
      )
  return [values[name] for name in shapes]
