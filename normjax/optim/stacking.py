"""One batched call for all matrices of one shape.

Thirty layers then cost the compiler and the launch queue what one does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from normjax.optim import meshes, whole_matrices
from normjax.types import Array


def stacked(
  function: Callable[..., Any],
  *operands: Sequence[Array],
  in_cache: bool = False,
  whole: bool = False,
) -> list[Any]:
  """`[function(*row) for row in zip(*operands)]`, one call for each shape.

  Args:
    function: of arrays that share their leading axis, whose entries it treats
      apart; returns arrays, in any tree, with that axis.
    *operands: lists of one length; the arrays of a row share their leading
      axis. Rows whose shapes (beyond it) and dtypes agree are concatenated.
    in_cache: whether `function` reads its operands many times and computes
      little. A CPU then takes the rows one by one: a matrix stays in its
      cache, a stack does not.
    whole: whether `function` multiplies or factorises matrices, and is best
      off with the whole of each: `whole_matrices.over` then shares them out.

  Returns:
    What `function` gives for each row, in order.
  """
  rows = list(zip(*operands, strict=True))
  if in_cache and rows:
    return lax.platform_dependent(
      rows,
      cpu=lambda rows: [function(*row) for row in rows],
      default=lambda rows: _concatenated(function, rows),
    )
  if whole:
    function = whole_matrices.shared(function)
  return _concatenated(function, rows)


def one_by_one(
  function: Callable[..., Any], *operands: Sequence[Array]
) -> list[Any]:
  """As `stacked` with `whole`, but no stack where nothing is shared out."""
  if whole_matrices.shares():
    return stacked(function, *operands, whole=True)
  return [function(*row) for row in zip(*operands, strict=True)]


def _concatenated(
  function: Callable[..., Any], rows: Sequence[Sequence[Array]]
) -> list[Any]:
  groups: dict[Any, list[int]] = {}
  for n, row in enumerate(rows):
    # A stack varies over the devices over which any of its rows does.
    key = tuple((x.shape[1:], x.dtype, meshes.varying_axes(x)) for x in row)
    groups.setdefault(key, []).append(n)
  results: list[Any] = [None] * len(rows)
  for members in groups.values():
    if len(members) == 1:
      results[members[0]] = function(*rows[members[0]])
      continue
    columns = zip(*(rows[n] for n in members), strict=True)
    flat, structure = jax.tree.flatten(
      function(*(jnp.concatenate(column) for column in columns))
    )
    start = 0
    for n in members:
      end = start + len(rows[n][0])
      results[n] = structure.unflatten([x[start:end] for x in flat])
      start = end
  return results
