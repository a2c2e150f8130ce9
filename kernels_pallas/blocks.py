"""Statistics in blocks of rows, for CPUs.

There a reduction of a product first writes the product. In blocks it stays in
the cache; in one piece it is an array of the size of x, whose memory the system
hands over page by page: more time than the arithmetic takes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from kernels_pallas import dispatch
from kernels_pallas.dispatch import Shapes, Target

_ROWS = 256
_FEWEST_ROWS = 16
# Below it, the loop costs what the cache saves.
_LEAST_VALUES = 2**20
# A block of images and what is computed of it stay in the cache.
_IMAGE_VALUES = 2**18


def rows(shape: tuple[int, ...]) -> int:
  """How many rows of an array of this shape a block has."""
  return math.gcd(math.prod(shape[:-1]), _ROWS)


def supports(
  target: Target, shapes: Shapes, dtypes: Sequence[DTypeLike]
) -> str | None:
  """Why an op should not go block by block."""
  del dtypes
  shape = shapes[0]
  if target.platform != "cpu":
    return f"is for CPUs, this is {target.platform}"
  if math.prod(shape) < _LEAST_VALUES:
    return f"needs {_LEAST_VALUES} values or more, not shape {shape}"
  if rows(shape) < _FEWEST_ROWS:
    return f"needs a multiple of {_FEWEST_ROWS} rows, not shape {shape}"
  return dispatch.one_device(target)


def scan(
  body: Callable[..., tuple[Any, Any]], carry: Any, *arrays_bd: Array
) -> tuple[Any, Any]:
  """`carry, out = body(carry, *blocks)` over blocks of rows.

  Args:
    body: from a carry and blocks (rows, …) to both of the new.
    carry: the first.
    *arrays_bd: of equal numbers of rows; the first one's shape decides.

  Returns:
    The last carry, and what the body put out, for all rows.
  """
  size = rows(arrays_bd[0].shape)
  carry, out = lax.scan(
    lambda carry, blocks: body(carry, *blocks),
    carry,
    tuple(_split(a, size) for a in arrays_bd),
  )
  return carry, jax.tree.map(_join, out)


def pay(x: Array) -> bool:
  """Whether an op on x should go block by block here."""
  return supports(dispatch.target(x), [x.shape], [x.dtype]) is None


def reduce(
  function: Callable[..., tuple[Any, Any]], *arrays_bd: Array
) -> tuple[Any, Any]:
  """`sums, out = function(*arrays)`, block by block where that pays.

  Args:
    function: from arrays (rows, …) to sums over those rows, and arrays of as
      many rows; none of the size of x.
    *arrays_bd: of equal numbers of rows; the first one is x.

  Returns:
    Sums over all rows, and what the function put out, for all rows. XLA will
    not fuse them with what uses them, for it would write their broadcast.
  """
  if not pay(arrays_bd[0]):
    return function(*arrays_bd)

  def body(total, *blocks):
    sums, out = function(*blocks)
    return jax.tree.map(jnp.add, total, sums), out

  size = rows(arrays_bd[0].shape)
  shapes = jax.eval_shape(function, *(a[:size] for a in arrays_bd))[0]
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  return lax.optimization_barrier(scan(body, zeros, *arrays_bd))


def unfused(x: Array, values: Any) -> Any:
  """The values, which XLA may not fuse with what uses them.

  Where blocks pay, it would write, of the size of x, what two passes have in
  common (their residuals) or a statistic's broadcast.
  """
  return lax.optimization_barrier(values) if pay(x) else values


def by_image(function: Callable[..., Any], *arrays: Array) -> Any:
  """`function(*arrays)`, some images at a time where that pays.

  Args:
    function: from arrays whose first axis is that of images to such arrays,
      none of them of the size of x; what it does to an image depends on no
      other.
    *arrays: the first one is x, (b, y, x, c).

  Returns:
    What the function puts out for all images.
  """
  x = arrays[0]
  if not pay(x):
    return function(*arrays)
  return lax.optimization_barrier(by_block(function, images(x.shape), *arrays))


def sums_of_images(function: Callable[..., Any], *arrays: Array) -> Any:
  """As `by_image`, of sums that are to be summed over the images as well.

  An accelerator's XLA would make of that a second sum over all pixels, and
  write the terms that sums of two shapes have in common.
  """
  sums = by_image(function, *arrays)
  if dispatch.target(arrays[0]).platform == "cpu":
    return sums
  return lax.optimization_barrier(sums)


def images(shape: tuple[int, ...]) -> int:
  """How many images of an array (b, y, x, c) a block has."""
  most = max(1, _IMAGE_VALUES // math.prod(shape[1:]))
  return math.gcd(shape[0], 2 ** (most.bit_length() - 1))


def by_block(
  function: Callable[..., Any],
  size: int,
  *arrays: Array,
  wrap: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda f: f,
) -> Any:
  """`function(*arrays)`, for `size` of their first axis at a time.

  Args:
    function: from arrays to such as have that axis, too; what it does at one
      place of it depends on no other.
    size: divides the axis.
    *arrays: of equal first axes.
    wrap: what becomes of the function of blocks, as `jax.checkpoint`.
  """
  # Blocks of one without an axis of size 1: XLA would copy all to make it.
  split = arrays if size == 1 else [_split(a, size) for a in arrays]

  shapes = jax.eval_shape(function, *(a[:size] for a in arrays))

  # Blocks of results are flat: where y and dx have one shape, their loops would
  # begin with the same zeros, which XLA copies for one of them.
  @wrap
  def flat(*blocks):
    if size == 1:
      blocks = tuple(block[None] for block in blocks)
    return jax.tree.map(jnp.ravel, function(*blocks))

  _, out = lax.scan(lambda _, blocks: (None, flat(*blocks)), None, tuple(split))
  count = arrays[0].shape[0]
  return jax.tree.map(lambda a, s: a.reshape(count, *s.shape[1:]), out, shapes)


def _split(a: Array, size: int) -> Array:
  """(n, ...) to (n / size, size, ...)."""
  return a.reshape(-1, size, *a.shape[1:])


def _join(a: Array) -> Array:
  return a.reshape(-1, *a.shape[2:])
