"""Specs of ops of rows whose last array is a residual, or None."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from kernels_pallas import contract
from kernels_pallas.specs import ArgumentSpec

Shapes = Callable[
  [tuple[int, ...], DTypeLike], Sequence[jax.ShapeDtypeStruct | None]
]

_ROWS = 8192  # tokens of a step, as of 32 sequences of 256
# Of features: 768 and 5504 are no multiples of 1024, 8192 is the widest; what
# needs most registers is the last of those with a residual.
_PLAIN = (
  *((width, jnp.bfloat16) for width in (512, 768, 1024, 4096, 5504, 8192)),
  (4096, jnp.float32),
)
_WITH_RESIDUAL = ((4096, jnp.bfloat16), (8192, jnp.float32))


def specs(
  shapes: Shapes, differentiated: tuple[int, ...]
) -> tuple[ArgumentSpec, ...]:
  """What a benchmark runs.

  Args:
    shapes: (shape of the rows, their dtype) -> the arguments', without a
      residual.
    differentiated: see `ArgumentSpec`.
  """

  def spec(width: int, dtype: DTypeLike, residual: bool) -> ArgumentSpec:
    x, *vectors, _ = shapes((_ROWS, width), dtype)
    x_bytes, vectors_bytes = _bytes([x]), _bytes(vectors)
    # x and y, x and dy and dx; h as well, and twice the gradient that it has.
    passes, backward = (4, 4) if residual else (2, 3)
    return ArgumentSpec(
      name=f"{_ROWS} x {width} {jnp.dtype(dtype).name}"
      + (" + residual" if residual else ""),
      shapes=(x, *vectors, x if residual else None),
      ideal_bytes=passes * x_bytes + vectors_bytes,
      options={"eps": 1e-6},
      differentiated=differentiated,
      # Of the vectors one is read, the gradients of all are written.
      ideal_backward_bytes=backward * x_bytes + vectors_bytes + 4 * width,
    )

  return (
    *(spec(*each, residual=False) for each in _PLAIN),
    *(spec(*each, residual=True) for each in _WITH_RESIDUAL),
  )


def with_residual(plain: contract.Contract) -> contract.Contract:
  """The contract, with a residual too: its first spec, and the widest.

  Those are float32: in bfloat16 plain operations round the gradient of x before
  they add that of the sum, and a kernel does not.
  """

  def added(spec: ArgumentSpec) -> ArgumentSpec:
    return dataclasses.replace(
      spec,
      name=f"{spec.name}_residual",
      shapes=(*spec.shapes[:-1], spec.shapes[0]),
      differentiated=(*spec.differentiated, len(spec.shapes) - 1),
    )

  def width(spec: ArgumentSpec) -> tuple[int, bool]:
    x: Any = spec.shapes[0]
    return x.shape[-1], x.dtype == jnp.float32

  return dataclasses.replace(
    plain,
    specs=(*plain.specs, added(plain.specs[0])),
    largest=(*plain.largest, added(max(plain.largest, key=width))),
  )


def _bytes(shapes: Sequence[jax.ShapeDtypeStruct | None]) -> int:
  return sum(math.prod(s.shape) * s.dtype.itemsize for s in shapes if s)
