"""A few blocks of the parameters at a time: block coordinate descent."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from normjax import errors, validate
from normjax.optim import groups
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
  """

  names: tuple[str, ...]
  of_leaf: tuple[int, ...]
  likes: tuple[dict[int, int], ...]

  def is_held(self, leaf: int) -> bool:
    """Whether the state of one block has its place: the first of a kind."""
    block = self.of_leaf[leaf]
    return block >= 0 and min(self.likes[leaf]) == block


def blocks_of(
  method: str,
  params: PyTree,
  blocks: Sequence[str],
  others: str,
  flags: Sequence[Any] | None = None,
) -> Blocks:
  """The blocks of a tree.

  Args:
    method: for messages.
    params: the tree.
    blocks: a pattern of the paths of each block; () for a block per layer,
      "layers/0" and so on, and per entry of the root where there is none.
    others: what happens to the leaves outside of all layers, see `OTHERS`.
    flags: what else leaves of one kind have in common.

  Raises:
    UserError: a leaf that no pattern matches, or a pattern without a leaf.
  """
  names, numbers, inside = (
    _by_pattern(method, params, blocks) if blocks else _by_layer(params, others)
  )
  signatures: dict[int, list[Any]] = {}
  leaves = [leaf for _, leaf in groups.leaves(params)]
  for n, number in enumerate(numbers):
    kind = inside[n], leaves[n].shape, str(leaves[n].dtype)
    own = None if flags is None else flags[n]
    signatures.setdefault(number, []).append((*kind, own))
  places: dict[Any, dict[int, int]] = {}
  likes: list[dict[int, int]] = []
  seen: dict[int, int] = {}
  for n, number in enumerate(numbers):
    if number < 0:
      likes.append({})
      continue
    position = seen[number] = seen.get(number, -1) + 1
    key = tuple(signatures[number]), position
    members = places.setdefault(key, {})
    members[number] = n
    likes.append(members)
  return Blocks(tuple(names), tuple(numbers), tuple(likes))


# Names of the blocks, the number of each leaf's, its path within the block.
_Found = tuple[list[str], list[int], list[str]]


def _by_pattern(method: str, params: PyTree, blocks: Sequence[str]) -> _Found:
  numbers: list[int] = []
  paths = [path for path, _ in groups.leaves(params)]
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
        f" {', '.join(map(groups.show, paths[:8]))}."
      )
  return list(blocks), numbers, paths


def _by_layer(params: PyTree, others: str) -> _Found:
  named = groups.leaves(params)
  layers = [found and found[0] for found in (_LAYER.match(p) for p, _ in named)]
  if not any(layers):
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
) -> None:
  """Checks the options that block-wise methods share.

  Raises:
    UserError: a value that is not allowed.
    TypeError: one of another type.
  """
  if isinstance(blocks, str) or not isinstance(blocks, Sequence):
    validate.refuse_type(method, "blocks", blocks, "a sequence of patterns")
  for pattern in blocks:
    validate.pattern(method, "blocks", pattern)
  validate.choice(method, "others", others, OTHERS)
  validate.choice(method, "order", order, ORDERS)
  validate.traced_count(method, "switch_every", switch_every)
  validate.count(method, "num_active", num_active, default=1)
  validate.traced_count(method, "seed", seed, least=0)


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
  for number, leaf in zip(found.of_leaf, leaves, strict=True):
    if number >= 0:
      sums[number] += jnp.sum(jnp.square(leaf.astype(jnp.float32)))
  return jnp.stack(sums)


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
) -> dict[str, str]:
  """Path of each leaf to what moves it."""
  found = blocks_of(method, params, blocks, others)
  return {
    path: f"{method}, block {found.names[number] or 'of all'}"
    if number >= 0
    else "never moves"
    for (path, _), number in zip(
      groups.leaves(params), found.of_leaf, strict=True
    )
  }
