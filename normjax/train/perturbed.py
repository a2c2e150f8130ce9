"""Which parameters a zeroth-order step moves, along what, and with which."""

import dataclasses
import functools
import re
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from normjax import errors
from normjax.nn import shifted
from normjax.nn.model_roles import Roles
from normjax.train import frozen, leaf_by_leaf, sparse
from normjax.types import Array, PyTree


class Plan(NamedTuple):
  """The leaves of a model, by path.

  Attributes:
    blocks: of each leaf that is moved along z, the number of its block.
    first: paths of those whose gradient is computed.
    indices: of all leaves: z of one does not depend on what is trained.
    num_blocks: of them.
  """

  blocks: Mapping[str, int]
  first: frozenset[str]
  indices: Mapping[str, int]
  num_blocks: int

  def directions(
    self,
    key: Array,
    mask_key: Array,
    params: PyTree,
    sparsity: float,
    layer_sparsity: str,
  ) -> "Directions":
    """The directions of a step.

    Args:
      key: of z.
      mask_key: of the entries that stay.
      params: w.
      sparsity: the share of the entries that stay; 0: there is no mask.
      layer_sparsity: of `sparse.TABLE`.
    """
    data = jax.random.key_data
    if not sparsity:
      return Directions(data(key), None, {})
    leaves: dict[str, Array] = {}
    _map(leaves.setdefault, params)
    moved = {path: leaves[path] for path in self.blocks}
    counts = sparse.TABLE[layer_sparsity](moved, sparsity)
    return Directions(
      data(key),
      data(mask_key),
      {self.indices[path]: count for path, count in counts.items()},
    )

  def moved(
    self,
    params: PyTree,
    t: Array,
    directions: "Directions",
    number: Array,
    block: Array,
  ) -> PyTree:
    """The parameters w + t z, not drawn yet.

    Args:
      params: w.
      t: how far.
      directions: of the step.
      number: which of them.
      block: the one that is moved.
    """

    def leaf(path: str, value: Array) -> Any:
      if path not in self.blocks:
        return value
      is_moved = None
      if self.num_blocks > 1:
        is_moved = block == self.blocks[path]
      z = directions.of(number, self.indices[path])
      return shifted.Shifted(value, t, z, is_moved)

    return _map(leaf, params)

  def held(self, params: PyTree) -> PyTree:
    """The parameters; no gradient passes those that are moved along z."""
    if not self.first:
      return params
    return _map(
      lambda path, value: (
        shifted.Shifted(value) if path in self.blocks else value
      ),
      params,
    )

  def gradients(
    self,
    trained: PyTree,
    first: PyTree,
    slopes_qb: Array,
    directions: "Directions",
  ) -> PyTree:
    """1/q sum_j g_j z_j of what is moved along z, for `leaf_by_leaf`.

    Args:
      trained: parameters, for their structure.
      first: the gradients that were computed.
      slopes_qb: g_j, by direction and block.
      directions: of the step.
    """

    def leaf(path: str, value: Array) -> leaf_by_leaf.Deferred:
      index, block = self.indices[path], self.blocks[path]
      dtype = shifted.wide(value.dtype)

      def make(source: tuple[Directions, Array]) -> Array:
        directions, slopes_qb = source
        count = len(slopes_qb)

        def drawn(number: Array) -> Array:
          z = directions.of(number, index).draw(value.shape)
          return (slopes_qb[number, block] * z).astype(dtype)

        if count == 1:
          return drawn(jnp.zeros((), jnp.int32))
        total = lax.fori_loop(
          0,
          count,
          lambda number, summed: summed + drawn(number),
          jnp.zeros(value.shape, dtype),
        )
        return total / count

      # With the slopes in one barrier nothing is drawn before they are known.
      source = lax.optimization_barrier((directions, slopes_qb))
      return leaf_by_leaf.Deferred(value.shape, dtype, source, make)

    estimated = _map(leaf, frozen.select(trained, frozenset(self.blocks)))
    return frozen.put_back(frozen.put_back(trained, estimated), first)


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("key", "mask_key", "num_zeros"),
  meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Directions:
  """The directions z_j of a step.

  Attributes:
    key: of all z, as `jax.random.key_data` gives it.
    mask_key: of the entries that stay; None: none do.
    num_zeros: how many stay, by index of the leaf.
  """

  key: Array
  mask_key: Array | None
  num_zeros: Mapping[int, Array]

  def of(self, number: Array, index: int) -> shifted.Direction:
    """That of one leaf.

    Args:
      number: j.
      index: of the leaf.
    """
    key = jax.random.wrap_key_data(self.key)
    z_key = _folded(jax.random.fold_in(key, number), index)
    if self.mask_key is None:
      return shifted.Direction(z_key)
    mask_key = _folded(jax.random.wrap_key_data(self.mask_key), index)
    return shifted.Direction(z_key, mask_key, self.num_zeros[index])


def _folded(key: Array, index: int) -> Array:
  return jax.random.key_data(jax.random.fold_in(key, index))


def plan_of(
  roles: Roles, trained: frozen.Trained, blocks: str, first_order_layers: int
) -> Plan:
  """The plan of a model.

  Args:
    roles: of its parameters.
    trained: which of them are.
    blocks: of `BLOCKS`.
    first_order_layers: how many of the last layers are not moved along z.

  Raises:
    UserError: a model without layers, where they are asked for; nothing is
      left to be moved along z.
  """
  paths = [path for path, _ in roles.params()]
  indices = {path: index for index, path in enumerate(sorted(paths))}
  moving = [path for path in paths if trained is None or path in trained]
  layer_of: dict[str, int] = {}
  first: frozenset[str] = frozenset()
  by_layer = blocks in ("layers", "branches")
  if by_layer or first_order_layers:
    asked = (
      f"blocks={blocks!r}"
      if by_layer
      else f"first_order_layers={first_order_layers}"
    )
    layer_of, count = _layers(roles, paths, asked)
    first = frozenset(
      path for path in moving if layer_of[path] >= count - first_order_layers
    )
    if len(first) == len(moving):
      raise errors.UserError(
        f"first_order_layers={first_order_layers}: of {count} layers nothing is"
        " left to estimate; backpropagation is train.gradient='backpropagation'"
        "."
      )
  if blocks == "branches" and not any(map(_branch, paths)):
    raise errors.UserError(
      f"blocks='branches': {roles.model} has no layers/<i>/attention and no"
      f" layers/<i>/feed_forward; allowed: {', '.join(_OTHERS)}."
    )
  left = [path for path in moving if path not in first]
  block_of = BLOCKS[blocks]
  found = {path: block_of(path, layer_of.get(path, 0)) for path in left}
  ranks = {block: i for i, block in enumerate(sorted(set(found.values())))}
  numbers = {path: ranks[block] for path, block in found.items()}
  return Plan(numbers, first, indices, len(ranks))


def _branch(path: str) -> str:
  """Whose part of a layer it is; "" of neither, as a factor of both."""
  found = re.match(r"layers/\d+/(attention|feed_forward)(?:_|/)", path)
  return found[1] if found else ""


# What is perturbed together: (path, its layer) -> the block.
BLOCKS: Mapping[str, Callable[[str, int], Hashable]] = {
  "whole": lambda path, layer: 0,
  "layers": lambda path, layer: layer,
  "branches": lambda path, layer: (layer, _branch(path)),
  "modules": lambda path, layer: path.rpartition("/")[0],
  "leaves": lambda path, layer: path,
}
_OTHERS = tuple(name for name in BLOCKS if name != "branches")


def _layers(
  roles: Roles, paths: list[str], asked: str
) -> tuple[dict[str, int], int]:
  """The layer of each path, and how many there are."""
  patterns = roles.layers(asked, allowed="blocks='whole', first_order_layers=0")
  found = {
    path: next(
      (n for n, p in enumerate(patterns) if re.fullmatch(p, path)),
      len(patterns),
    )
    for path in paths
  }
  return found, len(patterns) + 1


def _map(function: Any, tree: PyTree, prefix: str = "") -> PyTree:
  """The function of (path, leaf) at each leaf of a nested dict."""
  return {
    key: _map(function, value, f"{prefix}{key}/")
    if isinstance(value, Mapping)
    else function(f"{prefix}{key}", value)
    for key, value in tree.items()
  }
