"""Parameters moved along random directions, drawn where they are used.

    w + t z,   z ~ N(0, I)

A tree of w + t z has the size of the model. Here a leaf of a model's variables
may be a `Shifted` instead: w, t and the key of z. `nn.variables.merge` draws z
and adds it for all modules but those that a module draws for itself, when it
comes to them (`draws_for`): a scanned stack stacks leaves and keys, and its
loop's body draws for one layer.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from normjax.types import Array, PyTree


def num_zeros(size: int, sparsity: float) -> int:
  """floor(s n) entries; what floats make of s n does not lose one."""
  return math.floor(round(sparsity * size, 6))


def wide(dtype: Any) -> Any:
  """What w + t z is added in: float32, or float64 where w is."""
  return jnp.promote_types(dtype, jnp.float32)


def is_kept(
  key: Array, shape: tuple[int, ...], num_zeros: int | Array
) -> Array:
  """A random mask with exactly so many zeros.

  The mask of ZO-Bench's code is false where normal() < s, a share of Phi(s):
  0.5 of s = 0, 0.69 of s = 0.5, 0.82 of s = 0.9. It is not this one.

  Args:
    key: of the mask.
    shape: of the leaf.
    num_zeros: of its n entries; of one key, those of fewer are among those of
      more.
  """
  size = math.prod(shape)
  bits = jax.random.bits(key, (size,))
  # A permutation, whatever bits are equal.
  _, order = lax.sort_key_val(bits, jnp.arange(size, dtype=jnp.int32))
  kept = jnp.arange(size, dtype=jnp.int32) >= num_zeros
  return (
    jnp.zeros(size, bool)
    .at[order]
    .set(kept, unique_indices=True)
    .reshape(shape)
  )


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("key", "mask_key", "num_zeros"),
  meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Direction:
  """The direction z of one leaf.

  Attributes:
    key: of z, as `jax.random.key_data` gives it.
    mask_key: of the entries that stay; None: all are moved.
    num_zeros: how many stay, int32.
  """

  key: Array
  mask_key: Array | None = None
  num_zeros: Array | None = None

  def draw(self, shape: tuple[int, ...]) -> Array:
    """z, float32."""
    z = jax.random.normal(jax.random.wrap_key_data(self.key), shape)
    if self.mask_key is None or self.num_zeros is None:
      return z
    mask_key = jax.random.wrap_key_data(self.mask_key)
    return jnp.where(is_kept(mask_key, shape, self.num_zeros), z, 0.0)


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("value", "scale", "direction", "is_moved"),
  meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Shifted:
  """A leaf that is w + t z.

  Attributes:
    value: w.
    scale: t, a scalar; None: the leaf is w, and no gradient is asked for. It
      is in no loop with layers whose gradient is.
    direction: z.
    is_moved: whether it is w + t z after all, where that is known only when
      the program runs; None: it is.
  """

  value: Array
  scale: Array | None = None
  direction: Direction | None = None
  is_moved: Array | None = None

  @property
  def shape(self) -> tuple[int, ...]:
    """That of w."""
    return self.value.shape

  @property
  def dtype(self) -> Any:
    """That of w."""
    return self.value.dtype

  def array(self) -> Array:
    """Draws z: the sum, in `wide`, is rounded to the dtype of w once."""
    scale, direction = self.scale, self.direction
    if scale is None or direction is None:
      return lax.stop_gradient(self.value)

    def moved() -> Array:
      z = direction.draw(self.shape)
      w = self.value.astype(wide(self.dtype))
      return (w + scale * z).astype(self.dtype)

    if self.is_moved is None:
      return moved()
    return lax.cond(self.is_moved, moved, lambda: self.value)


def is_shifted(leaf: Any) -> bool:
  """For `jax.tree.map`: whether a node is such a leaf."""
  return isinstance(leaf, Shifted)


def arrays(tree: PyTree) -> PyTree:
  """The tree of arrays, drawn at once."""
  return jax.tree.map(
    lambda x: x.array() if is_shifted(x) else x, tree, is_leaf=is_shifted
  )


def draw(module: nnx.Module) -> None:
  """Puts arrays in place of a module's shifted leaves.

  What is in an attribute that the class of an inner module names in
  `draws_for` is left to that module.

  Args:
    module: is changed; its variables are no others' (`variables.merge`).
  """
  nodes = list(nnx.iter_graph(module))
  left = [
    (*path, name)
    for path, node in nodes
    for name in getattr(type(node), "draws_for", ())
  ]
  before = None
  for path, node in nodes:
    if not isinstance(node, nnx.Variable):
      continue
    leaf = node.get_raw_value()
    if is_shifted(leaf) and not any(path[: len(p)] == p for p in left):
      # In turn: what a draw takes is free before the next one begins.
      if before is not None:
        leaf, value = _after(leaf, before.get_raw_value())
        before.set_raw_value(value)
      node.set_raw_value(leaf.array())
      before = node if leaf.direction is not None else before


def draw_after(module: nnx.Module, x: Array) -> Array:
  """`draw`, when x is there and not before.

  Args:
    module: is changed.
    x: what it will be applied to.

  Returns:
    x, to go on with.
  """
  for _, node in nnx.iter_graph(module):
    if not isinstance(node, nnx.Variable):
      continue
    leaf = node.get_raw_value()
    if is_shifted(leaf) and leaf.direction is not None:
      leaf, x = _after(leaf, x)
      node.set_raw_value(leaf)
      break  # The others are drawn after this one.
  draw(module)
  return x


def _after(leaf: Shifted, x: Array) -> tuple[Shifted, Array]:
  """The leaf, drawn when x is there; x must pass, or it would bind nothing."""
  direction, x = lax.optimization_barrier((leaf.direction, x))
  return dataclasses.replace(leaf, direction=direction), x
