"""What an op says of how it is checked: `specs.CONTRACT` of its package."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from kernels_pallas.specs import ArgumentSpec

Arguments = tuple[Any, ...]


def draw(spec: ArgumentSpec, seed: int) -> Arguments:
  """Rows of other magnitude each, vectors near 1; as `spec.shapes` asks."""
  rng = np.random.default_rng(seed)

  def one(shape):
    if shape is None:
      return None
    if len(shape.shape) < 2:
      values = rng.normal(1, 0.3, size=shape.shape)
    else:
      values = rng.normal(size=shape.shape)
      values *= rng.uniform(0.1, 10, size=(*shape.shape[:-1], 1))
    return jnp.asarray(values, shape.dtype)

  return tuple(map(one, spec.shapes))


def row_bounds(spec: ArgumentSpec, shape: tuple[int, ...]) -> tuple[int, float]:
  """Of an op of rows: its terms and magnitude, see `Contract.bounds`.

  What has the shape of the rows sums over a row; a gradient of a vector sums
  over the rows, with terms near 1, what each of them has from its row.
  """
  first: Any = spec.shapes[0]
  *leading, width = first.shape
  count = math.prod(leading)
  return (width, 1) if shape == first.shape else (count + width, count)


@dataclasses.dataclass(frozen=True)
class Contract:
  """What an op is checked on.

  Attributes:
    specs: small ones, of awkward shapes; the first is the plainest.
    more: larger ones, for who has the time.
    largest: such as only a device has the time for: its kernels go on from
      block to block.
    draw: (spec, seed) -> the arguments.
    bounds: (spec, shape of a result or gradient) -> how many terms its longest
      sum has, and their summed magnitude. A float32 may be off by
      (terms + 8) 2^-24 of that or of the largest value, if more.
    donated: positions of the arguments whose memory the results can take.
    ties: of whole numbers that stand for others, such as codes: what
      (spec, arguments in float64) gives says, for each result, None or where
      the next number is as right. Without it they must be equal.
  """

  specs: tuple[ArgumentSpec, ...]
  more: tuple[ArgumentSpec, ...] = ()
  largest: tuple[ArgumentSpec, ...] = ()
  draw: Callable[[ArgumentSpec, int], Arguments] = draw
  bounds: Callable[[ArgumentSpec, tuple[int, ...]], tuple[int, float]] = (
    row_bounds
  )
  donated: tuple[int, ...] = (0,)
  ties: Callable[[ArgumentSpec, Arguments], Sequence[Any]] | None = None


def row_contract(
  shapes: Callable[
    [tuple[int, ...], DTypeLike], Sequence[jax.ShapeDtypeStruct | None]
  ],
  differentiated: tuple[int, ...],
  **options: Any,
) -> Contract:
  """The contract of an op of rows: a row, odd rows, 8 to 8192 values.

  Args:
    shapes: (shape of the rows, their dtype) -> the arguments'.
    differentiated: see `ArgumentSpec`.
    **options: see `ArgumentSpec`.
  """

  def spec(shape, dtype):
    return ArgumentSpec(
      name=f"{'x'.join(map(str, shape))}_{jnp.dtype(dtype).name}",
      shapes=tuple(shapes(shape, dtype)),
      ideal_bytes=0,
      options=options,
      differentiated=differentiated,
    )

  single, half = jnp.float32, jnp.bfloat16
  few = [(3, 5, 128), (1, 256), (5, 200), (3, 8)]
  many = [(600, 128), (7, 1024), (40, 8192)]
  # More rows than a GPU takes beside each other, by no multiple.
  most = [(4099, 1024), (601, 8192)]
  return Contract(
    specs=(*(spec(shape, single) for shape in few), spec((3, 5, 128), half)),
    more=(
      *(spec(shape, half) for shape in few[1:]),
      *(spec(shape, dtype) for shape in many for dtype in (single, half)),
    ),
    largest=tuple(spec(shape, d) for shape in most for d in (single, half)),
  )
