"""What Mosaic GPU kernels over rows share: a warpgroup that walks over rows.

A CTA is one warpgroup. Two could not share a row: in jax 0.11.2 all sums of
vectors in a CTA use one scratch, and each would overwrite the other's, which
the interpreter does not show. So nothing here waits for anything, and a result
does not depend on the order in which CTAs run.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from kernels_pallas.tiles import GpuTile

_CTA = "cta"


def launch(
  body: Callable[..., None],
  name: str,
  tile: GpuTile,
  outputs: Any,
  *inputs: Any,
  scratch: Sequence[Any] = (),
  interpret: Any = None,
) -> Any:
  """Runs `body(*input_refs, *output_refs, *scratch_refs)` on every CTA."""
  kernel = plgpu.kernel(
    body,
    out_type=outputs,
    scratch_types=scratch,
    grid=(tile.ctas,),
    grid_names=(_CTA,),
    kernel_name=name,
    interpret=interpret,
  )
  return kernel(*inputs)


def cta() -> Array:
  """Which CTA this is."""
  return lax.axis_index(_CTA)


def load(ref: Any, tile: GpuTile) -> Array:
  """A vector from memory to registers, in its own dtype."""
  return plgpu.load(ref, layout=_layout(ref, tile), optimized=False)


def load_rows(tile: GpuTile, row: Array, *refs: Any) -> list[Array]:
  """A row of each of the refs that are not None."""
  return [load(ref.at[row], tile) for ref in refs if ref is not None]


def total(loaded: Sequence[Array], ref: Any, row: Array) -> Array:
  """The sum of rows, in float32; stored, if there is a ref for it.

  It is then rounded as stored: what is read of it later is the same.
  """
  first, *others = (values.astype(jnp.float32) for values in loaded)
  result = sum(others, first)
  if ref is None:
    return result
  ref[row] = result.astype(ref.dtype)
  return result.astype(ref.dtype).astype(jnp.float32)


def vector(ref: Any, tile: GpuTile) -> Callable[[], Array] | None:
  """A vector that each row needs, in float32, as a function; None stays None.

  From registers, or read anew where the tile is wide: it is in the cache.
  """
  if ref is None:
    return None
  if tile.wide:
    return lambda: load(ref, tile).astype(jnp.float32)
  value = load(ref, tile).astype(jnp.float32)
  return lambda: value


def switch(n: Array | int, branches: Sequence[Callable[[], Any]]) -> Any:
  """`branches[n]()`, without a branch where there is one alone."""
  return branches[0]() if len(branches) == 1 else lax.switch(n, branches)


def scaled(values: Array, scale: Callable[[], Array] | None) -> Array:
  """Values times a `vector`, if there is one."""
  return values if scale is None else values * scale()


def over_rows(
  tile: GpuTile,
  rows: int,
  fetch: Callable[[Array], Any],
  body: Callable[[Array, Any, Any], Any],
  carry: Any = None,
) -> Any:
  """`carry = body(row, fetch(row), carry)` for the rows of this CTA.

  Args:
    tile: its blocks; their number need not be a multiple of that of CTAs.
    rows: of all CTAs.
    fetch: loads what the row needs; may be called for a row a second time.
    body: computes and stores one row.
    carry: the first.
  """
  blocks = rows // tile.rows
  first = cta()

  def fetch_block(block):
    return [fetch(block * tile.rows + row) for row in range(tile.rows)]

  def compute(block, fetched, carry):
    for row, values in enumerate(fetched):
      carry = body(block * tile.rows + row, values, carry)
    return carry

  def step(j, state):
    block = first + j * tile.ctas
    if not tile.ahead:
      return compute(block, fetch_block(block), state)
    carry, fetched = state
    # After its last block a CTA reads the last of all, and does not compute it.
    ahead = fetch_block(jnp.minimum(block + tile.ctas, blocks - 1))
    return compute(block, fetched, carry), ahead

  steps = pl.cdiv(blocks - first, tile.ctas)
  if not tile.ahead:
    return lax.fori_loop(0, steps, step, carry)
  return lax.fori_loop(0, steps, step, (carry, fetch_block(first)))[0]


def _layout(vector: Any, tile: GpuTile) -> Any:
  return plgpu.Layout.WG_STRIDED(vector.shape, vec_size=tile.vector)


class RowSums:
  """Sums over this CTA's rows, each of the row's size, in float32.

  In registers, as the carry of `over_rows`; in shared memory where the tile is
  wide.
  """

  def __init__(self, tile: GpuTile, width: int, refs: Sequence[Any]):
    self._tile = tile
    self._refs = refs
    self._zero = jnp.zeros((width,), jnp.float32)

  @staticmethod
  def scratch(tile: GpuTile, width: int, count: int) -> list[Any]:
    """The scratch that `refs` of the constructor are."""
    shared = plgpu.SMEM((width,), jnp.float32)
    return [shared] * count if tile.wide else []

  def start(self, count: int) -> tuple[Array, ...]:
    """The first carry."""
    if not self._tile.wide:
      return (self._zero,) * count
    # In the layout that they are read in: of itself a zero has none.
    zero = plgpu.layout_cast(self._zero, _layout(self._zero, self._tile))
    for ref in self._refs:
      ref[...] = zero
    return ()

  def add(self, carry: tuple[Array, ...], *values: Any) -> tuple[Array, ...]:
    """The next carry; a value may be a function, called when it is added."""

    def computed(value: Any) -> Any:
      return value() if callable(value) else value

    if not self._tile.wide:
      return tuple(c + computed(v) for c, v in zip(carry, values, strict=True))
    for ref, value in zip(self._refs, values, strict=True):
      ref[...] = load(ref, self._tile) + computed(value)
    return ()

  def finish(self, carry: tuple[Array, ...], outputs: Sequence[Any]) -> None:
    """Stores the sums in this CTA's row of each output."""
    if self._tile.wide:
      carry = tuple(load(ref, self._tile) for ref in self._refs)
    for output, value in zip(outputs, carry, strict=True):
      output[cta()] = value
