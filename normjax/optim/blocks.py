"""A few blocks of the parameters at a time: block coordinate descent."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from normjax import errors, validate
from normjax.optim import groups, meshes
from normjax.types import Array, PyTree

# Of a path: the layer that it is in. What follows the number is a whole name,
# so that layer 1 is not layer 10.
_LAYER = re.compile(r"(?:.*?/)?(?:layers|layer|blocks|block|h)[/_]\d+(?=/|$)")
ORDERS = ("random", "descending", "ascending", "independent", "greedy")
OTHERS = ("never", "block")


class Blocks(NamedTuple):
  """Which leaf is in which block.

  Attributes:
    names: of the blocks, in order.
    of_leaf: number of each leaf's block, in the order of `jax.tree.leaves`;
      -1: in none, it never moves.
    likes: for each leaf the leaves in its place in all blocks of its kind,
      by block; blocks are of a kind where their leaves have the same names,
      shapes, dtypes and flags. What is in no block has none.
    depths: for each leaf the layers along its first axis, each of which is in
      a block of its own, from `of_leaf` on; 0: the leaf is in one block.
  """

  names: tuple[str, ...]
  of_leaf: tuple[int, ...]
  likes: tuple[dict[int, int], ...]
  depths: tuple[int, ...]

  def is_held(self, leaf: int) -> bool:
    """Whether the state of one block has its place: the first of a kind."""
    block = self.of_leaf[leaf]
    return block >= 0 and min(self.likes[leaf]) == block

  def numbers(self, leaf: int) -> Any:
    """Of the leaf's block, or of those of its layers, int32 (depth,)."""
    first, depth = self.of_leaf[leaf], self.depths[leaf]
    return first + jnp.arange(depth, dtype=jnp.int32) if depth else first


def blocks_of(
  method: str,
  params: PyTree,
  blocks: Sequence[str],
  others: str,
  flags: Sequence[Any] | None = None,
  *,
  stacked: Sequence[str] = (),
) -> Blocks:
  """The blocks of a tree.

  Args:
    method: for messages.
    params: the tree.
    blocks: a pattern of the paths of each block; () for a block per layer,
      "layers/0" and so on, and per entry of the root where there is none.
    others: what happens to the leaves outside of all layers, see `OTHERS`.
    flags: what else leaves of one kind have in common.
    stacked: a pattern of paths for each stack of layers; its leaves have the
      layers along their first axis. Their blocks come first.

  Raises:
    UserError: a leaf that no pattern matches, a pattern without a leaf, or
      leaves of one stack with unequal numbers of layers.
  """
  named = groups.leaves(params)
  names, firsts, depths = _stacks(method, named, stacked)
  rest = [each for each, depth in zip(named, depths, strict=True) if not depth]
  rest_names, rest_numbers, rest_inside = (
    _by_pattern(method, rest, blocks)
    if blocks
    else _by_layer(rest, others, by_root=not stacked)
  )
  found = iter(zip(rest_numbers, rest_inside, strict=True))
  offset = len(names)
  numbers, inside = list(firsts), [path for path, _ in named]
  for n, depth in enumerate(depths):
    if not depth:
      number, inside[n] = next(found)
      numbers[n] = number + offset if number >= 0 else number
  signatures: dict[int, list[Any]] = {}
  for n, (_, leaf) in enumerate(named):
    kind = inside[n], leaf.shape, str(leaf.dtype)
    own = None if flags is None else flags[n]
    signatures.setdefault(numbers[n], []).append((*kind, own))
  places: dict[Any, dict[int, int]] = {}
  likes: list[dict[int, int]] = []
  seen: dict[int, int] = {}
  for n, (number, depth) in enumerate(zip(numbers, depths, strict=True)):
    if number < 0:
      likes.append({})
      continue
    if depth:
      likes.append(dict.fromkeys(range(number, number + depth), n))
      continue
    position = seen[number] = seen.get(number, -1) + 1
    key = tuple(signatures[number]), position
    members = places.setdefault(key, {})
    members[number] = n
    likes.append(members)
  return Blocks(
    (*names, *rest_names), tuple(numbers), tuple(likes), tuple(depths)
  )


_Named = Sequence[tuple[str, Any]]  # Paths and leaves.
# Names of the blocks, the number of each leaf's, its path within the block.
_Found = tuple[list[str], list[int], list[str]]


def _stacks(
  method: str, named: _Named, stacked: Sequence[str]
) -> tuple[list[str], list[int], list[int]]:
  """Names of the layers, and for each leaf its first block and its layers."""
  names: list[str] = []
  firsts, depths = [-1] * len(named), [0] * len(named)
  for pattern in stacked:
    inside = [
      n
      for n, (path, _) in enumerate(named)
      if not depths[n] and re.fullmatch(pattern, path)
    ]
    if named and not inside:
      raise errors.UserError(
        f"{method}: stacked: no leaf is left for {pattern!r}; the paths begin"
        f" with {_paths(named)}."
      )
    depths_inside = [(*named[n][1].shape, 0)[0] for n in inside]
    depth = max(depths_inside, default=0)
    for n, own in zip(inside, depths_inside, strict=True):
      if not own or own != depth:
        path, leaf = named[n]
        raise errors.UserError(
          f"{method}: stacked={pattern!r}: {groups.show(path)} has the shape"
          f" {leaf.shape}; allowed: leaves with one number of layers, >= 1,"
          " along the first axis."
        )
      firsts[n], depths[n] = len(names), depth
    names += [f"{pattern}[{layer}]" for layer in range(depth)]
  return names, firsts, depths


def _paths(named: _Named) -> str:
  return ", ".join(groups.show(path) for path, _ in named[:8])


def _by_pattern(method: str, named: _Named, blocks: Sequence[str]) -> _Found:
  numbers: list[int] = []
  paths = [path for path, _ in named]
  for path in paths:
    found = (n for n, each in enumerate(blocks) if re.fullmatch(each, path))
    number = next(found, None)
    if number is None:
      raise errors.UserError(
        f"{method}: blocks={tuple(blocks)!r} miss the leaf"
        f" {groups.show(path)}; add a pattern that matches it, or '.*' at the"
        " end."
      )
    numbers.append(number)
  for n, name in enumerate(blocks):
    if paths and n not in numbers:
      raise errors.UserError(
        f"{method}: blocks: no leaf is left for {name!r}; the paths begin with"
        f" {_paths(named)}."
      )
  return list(blocks), numbers, paths


def _by_layer(named: _Named, others: str, *, by_root: bool) -> _Found:
  layers = [found and found[0] for found in (_LAYER.match(p) for p, _ in named)]
  if by_root and not any(layers):
    layers = [path.partition("/")[0] for path, _ in named]
  # Leaves without entries make no block.
  sized = [
    name for name, (_, leaf) in zip(layers, named, strict=True) if leaf.size
  ]
  names = sorted({name for name in sized if name is not None}, key=_natural)
  numbers: dict[str | None, int] = {name: n for n, name in enumerate(names)}
  if others == "block" and None in sized:
    numbers[None] = len(names)
    names.append("others")
  return (
    names,
    [numbers.get(name, -1) for name in layers],
    [
      path[len(name or "") :]
      for name, (path, _) in zip(layers, named, strict=True)
    ],
  )


def _natural(name: str) -> list[Any]:
  """Sorts layer 2 before layer 10."""
  parts = re.split(r"(\d+)", name)
  return [int(part) if part.isdigit() else part for part in parts]


def check(
  method: str,
  *,
  blocks: Any,
  others: Any,
  order: Any,
  switch_every: Any,
  num_active: Any,
  seed: Any,
  stacked: Any = (),
) -> None:
  """Checks the options that block-wise methods share.

  Raises:
    UserError: a value that is not allowed.
    TypeError: one of another type.
  """
  for option, value in (("blocks", blocks), ("stacked", stacked)):
    if isinstance(value, str) or not isinstance(value, Sequence):
      validate.refuse_type(method, option, value, "a sequence of patterns")
    for pattern in value:
      validate.pattern(method, option, pattern)
  validate.choice(method, "others", others, OTHERS)
  validate.choice(method, "order", order, ORDERS)
  validate.traced_count(method, "switch_every", switch_every)
  validate.count(method, "num_active", num_active, default=1)
  validate.seed(method, seed)


def chosen(
  found: Blocks,
  *,
  order: str,
  turn: Array,
  num_active: int,
  seed: int | Array,
  scores: Callable[[], Array] | None = None,
) -> tuple[Array, ...]:
  """Numbers of the blocks that move in a turn; it depends on nothing else.

  Args:
    found: the blocks.
    order: one of `ORDERS`.
    turn: switches so far, int32.
    num_active: how many move.
    seed: of random orders.
    scores: of each block, for "greedy".
  """
  total = len(found.names)
  if order == "greedy":
    assert scores is not None
    numbers = lax.top_k(scores(), num_active)[1]
  elif order in ("ascending", "descending"):
    numbers = (turn * num_active + jnp.arange(num_active)) % total
    numbers = numbers if order == "ascending" else total - 1 - numbers
  else:
    key = jax.random.key(seed, impl="threefry2x32")

    def shuffled(number):
      return jax.random.permutation(jax.random.fold_in(key, number), total)

    if order == "independent":
      numbers = shuffled(turn)[:num_active]
    else:
      # An epoch is of whole turns, so that no turn has a block twice: where
      # they do not come out even, its last begins its order again.
      turns = -(-total // num_active)
      places = turn % turns * num_active + jnp.arange(num_active)
      numbers = shuffled(turn // turns)[places % total]
  return tuple(numbers.astype(jnp.int32))


def squared_norms(found: Blocks, leaves: Sequence[Array]) -> Array:
  """Of each block, float32."""
  sums = [jnp.zeros((), jnp.float32)] * len(found.names)
  for n, (number, leaf) in enumerate(zip(found.of_leaf, leaves, strict=True)):
    if number < 0:
      continue
    squares = jnp.square(leaf.astype(jnp.float32))
    if depth := found.depths[n]:
      of_layers = jnp.sum(squares.reshape(depth, -1), axis=1)
      for layer in range(depth):
        sums[number + layer] += of_layers[layer]
    else:
      sums[number] += jnp.sum(squares)
  return jnp.stack(sums)


def layer_of(found: Blocks, leaf: int, value: Array, block: Array) -> Array:
  """Of a stacked leaf's value the layer that is in a block.

  Where none is, the nearest end: who calls does not use it. Of explicit axes
  the one that cuts the layers is gathered: which device has the layer is not
  known before the step.
  """
  return lax.dynamic_index_in_dim(
    meshes.whole_first(value), _layer(found, leaf, block), keepdims=False
  )


def put_layer(
  found: Blocks, leaf: int, value: Array, block: Array, layer: Array
) -> Array:
  """A stacked leaf's value with another layer, where one is in the block."""
  is_in = jnp.any(found.numbers(leaf) == block)
  value = value.astype(jnp.result_type(value, layer))
  layer = jnp.where(is_in, layer, layer_of(found, leaf, value, block))
  new = lax.dynamic_update_index_in_dim(
    meshes.whole_first(value),
    layer.astype(value.dtype),
    _layer(found, leaf, block),
    0,
  )
  return meshes.put_as(new, value)


def _layer(found: Blocks, leaf: int, block: Array) -> Array:
  return jnp.clip(block - found.of_leaf[leaf], 0, found.depths[leaf] - 1)


def check_count(method: str, found: Blocks, num_active: int) -> None:
  """Raises UserError where there are fewer blocks than move at a time."""
  if found.names and num_active > len(found.names):
    validate.refuse(
      method,
      "num_active",
      num_active,
      f"at most {len(found.names)}, the number of blocks",
    )


def routes(
  method: str,
  params: PyTree,
  blocks: Sequence[str],
  others: str,
  stacked: Sequence[str] = (),
) -> dict[str, str]:
  """Path of each leaf to what moves it."""
  found = blocks_of(method, params, blocks, others, stacked=stacked)
  said: dict[str, str] = {}
  for n, (path, _) in enumerate(groups.leaves(params)):
    number, depth = found.of_leaf[n], found.depths[n]
    said[path] = "never moves"
    if depth:
      last = found.names[number + depth - 1]
      said[path] = f"{method}, blocks {found.names[number]} to {last}"
    elif number >= 0:
      said[path] = f"{method}, block {found.names[number] or 'of all'}"
  return said
