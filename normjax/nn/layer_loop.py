"""The stream through like layers of a stack: one call, or one loop."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from normjax.nn import moving_layers
from normjax.types import Array, PyTree


def through(
  apply: moving_layers.Apply,
  x: Array,
  group: Sequence[int],
  layers: Sequence[tuple[Any, ...]],
  *,
  remat: bool,
) -> tuple[Array, list[PyTree]]:
  """The stream after the layers, and the new statistics of each.

  Args:
    apply: one layer; see `moving_layers.Apply`.
    x: the stream.
    group: numbers of the layers, consecutive.
    layers: for each what `apply` takes; all of one structure.
    remat: whether a layer is computed again for the backward pass. Where only
      some layers move, `moving_layers` does so anyway.
  """
  moving = moving_layers.current()
  if moving is not None:
    x, stats = moving_layers.run_group(apply, moving, x, group, layers)
    return x, _each(stats, len(layers))
  if remat:
    # In a loop nothing can merge the two computations anyway.
    apply = jax.checkpoint(apply, prevent_cse=len(layers) == 1)
  if len(layers) == 1:
    x, stats = apply(x, layers[0])
    return x, [stats]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
  x, stats = jax.lax.scan(apply, x, stacked)
  return x, _each(stats, len(layers))


def _each(stats: PyTree, count: int) -> list[PyTree]:
  return [jax.tree.map(lambda leaf, n=n: leaf[n], stats) for n in range(count)]
