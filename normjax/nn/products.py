"""Products of rows with a matrix."""

import math
from typing import Any

import jax
from jax import lax

from kernels_pallas import dispatch
from normjax.types import Array


def dot_general(
  x: Array, kernel: Array, dimension_numbers: Any, **options: Any
) -> Array:
  """lax.dot_general for `nnx.Linear`: the last axis of x with a matrix's first.

  On CPUs the rows are one axis. With more, XLA transposes the gradient of y in
  memory before it makes that of the kernel: for a head of 32,000 tokens as much
  again as the logits, in twice the time of the product. Both give the same
  bits. On a mesh of several devices rows keep their axes: what cuts the second
  of them cuts no axis of both.

  Args:
    x: (..., inputs).
    kernel: (inputs, outputs).
    dimension_numbers: ((last axis of x,), (0,)), ((), ()).
    **options: of lax.dot_general.
  """
  rows = x.shape[:-1]
  if (
    len(rows) < 2
    or dispatch.target(x).platform != "cpu"
    or _is_on_several_devices(x)
  ):
    return lax.dot_general(x, kernel, dimension_numbers, **options)
  flat = x.reshape(math.prod(rows), x.shape[-1])
  flat_numbers = ((1,), (0,)), ((), ())
  y = lax.dot_general(flat, kernel, flat_numbers, **options)
  return y.reshape(*rows, kernel.shape[1])


def _is_on_several_devices(x: Array) -> bool:
  mesh = jax.typeof(x).sharding.mesh
  return mesh.size > 1 and not mesh.are_all_axes_manual
