"""Bytes of Pallas TPU calls, from their blocks: the compiler counts none.

A block is fetched, or written back, whenever its index is another one than in
the step before; a block at the edge, as far as the array reaches.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core

Shape = tuple[int, ...]

_LANES = 128


@dataclasses.dataclass(frozen=True)
class Call:
  """A Pallas call of a program: its name, arrays and the bytes it moves."""

  name: str
  shapes: tuple[Shape, ...]
  bytes: int


def moved(jaxpr: core.Jaxpr) -> tuple[Call, ...]:
  """The Pallas calls in a program, also within others."""
  return tuple(dict.fromkeys(_call(equation) for equation in _calls(jaxpr)))


def _calls(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
  for equation in jaxpr.eqns:
    if equation.primitive.name == "pallas_call":
      yield equation
      continue
    for value in jax.tree.leaves(
      list(equation.params.values()), is_leaf=_is_program
    ):
      if _is_program(value):
        yield from _calls(getattr(value, "jaxpr", value))


def _is_program(value: Any) -> bool:
  return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def _call(equation: core.JaxprEqn) -> Call:
  mapping = equation.params["grid_mapping"]
  arrays: list[Any] = [v.aval for v in (*equation.invars, *equation.outvars)]
  # Before the arrays in blocks stand scalars that every step may read.
  blocked = arrays[len(arrays) - len(mapping.block_mappings) :]
  total = sum(
    _block_bytes(block, array, mapping.grid)
    for block, array in zip(mapping.block_mappings, blocked, strict=True)
  )
  return Call(
    str(equation.params["name"]), tuple(a.shape for a in arrays), total
  )


def _block_bytes(block: Any, array: Any, grid: tuple[Any, ...]) -> int:
  """Bytes moved of one array; an array that has no blocks is moved once."""
  filled = int(np.prod(_in_lanes(np.array(array.shape, np.int64))))
  whole = filled * array.dtype.itemsize
  sizes = [getattr(size, "block_size", 1) for size in block.block_shape]
  indices = _indices(block.index_map_jaxpr, grid)
  if indices is None or len(sizes) != len(array.shape):
    return whole
  changes = np.ones(len(indices), bool)
  changes[1:] = (indices[1:] != indices[:-1]).any(axis=1)
  indices = indices[changes]
  inside = np.minimum(np.array(array.shape) - indices * sizes, sizes)
  return int(np.prod(_in_lanes(inside), axis=1).sum()) * array.dtype.itemsize


def _in_lanes(sizes: np.ndarray) -> np.ndarray:
  """Sizes (..., axes) with the last one filled up; a vector stays as it is."""
  if sizes.shape[-1] < 2:
    return sizes
  filled = sizes.copy()
  filled[..., -1] = -(-filled[..., -1] // _LANES) * _LANES
  return filled


def _indices(program: Any, grid: tuple[Any, ...]) -> np.ndarray | None:
  """Of the block of every step, the last axis first; None if data decide."""
  if not all(isinstance(size, int) for size in grid):
    return None
  if len(program.jaxpr.invars) != len(grid):
    return None
  steps = np.indices(grid, np.int32).reshape(len(grid), math.prod(grid))

  def block(*step):
    return [
      jax.numpy.asarray(index) for index in core.jaxpr_as_fun(program)(*step)
    ]

  if not grid:
    return np.array(block(), np.int64)[None]
  return np.stack([np.asarray(i, np.int64) for i in jax.vmap(block)(*steps)], 1)
