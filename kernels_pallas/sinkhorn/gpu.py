"""A Mosaic GPU kernel: X is read once per round.

A block of threads has a row in its registers, scales it, and adds its squares
to sums that stay there too; each block writes its sums once, which are then
added up, in the same order each time. A launch takes the matrices of several
buffers. A row whose size is no multiple of 128 ends with 128 columns that the
others overlap: they count once in the row's sum, and both write the same sums.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from kernels_pallas import tiles, warpgroup
from kernels_pallas.sinkhorn import ref, rounds

_LANES = 128
_CTAS = 4  # per multiprocessor
# Sums are written once per block of threads: an eighth of what it reads.
_LEAST_ROWS = 16
_MOST_COLUMNS = 8192  # beyond, a row and its sums spill from the registers
_MOST_BUFFERS = 16


def supports(shape: tuple[int, ...]) -> str | None:
  """Why the kernel cannot take matrices of this shape."""
  if not _LANES <= shape[-1] <= _MOST_COLUMNS:
    return (
      f"needs rows of {_LANES} to {_MOST_COLUMNS} values, not shape {shape}"
    )
  return tiles.gpu_offsets_refuse(shape)


def sinkhorn(
  x: Any,
  num_iters: int = 5,
  first: str = "output",
  *,
  interpret: Any = None,
) -> Any:
  """See `kernels_pallas.sinkhorn.sinkhorn`."""
  kernel = functools.partial(balance, interpret=interpret)
  return rounds.by_kernel(kernel, x, num_iters, first)


def balance(
  xs: Sequence[Array],
  num_iters: int,
  first: str,
  *,
  ctas: int | None = None,
  interpret: Any = None,
) -> list[Array]:
  """See `ref.sinkhorn`, of each.

  Args:
    xs: matrices, stacked.
    num_iters: rounds.
    first: which side is balanced first.
    ctas: blocks of threads of a launch, at most; None: as tuned.
    interpret: as `plgpu.kernel` has it.
  """
  groups: dict[Any, list[int]] = {}
  for i, x in enumerate(xs):
    groups.setdefault((x.shape[1:], x.dtype), []).append(i)
  out = list(xs)
  for members in groups.values():
    for some in itertools.batched(members, _MOST_BUFFERS):
      given = [xs[i] for i in some]
      one_pass = functools.partial(_pass, given, ctas, interpret)
      moved = rounds.balance(given, num_iters, first, one_pass)
      for i, y in zip(some, moved, strict=True):
        out[i] = y
  return out


def _pass(
  xs: Sequence[Array],
  ctas: int | None,
  interpret: Any,
  inverse: Array,
  v: Array,
  *,
  given: bool,
  sums: bool,
) -> tuple[Array, Array | None]:
  """See `rounds.balance`."""
  ends = list(itertools.accumulate(len(x) for x in xs))
  starts = [0, *ends[:-1]]
  count = ends[-1]
  m, n = xs[0].shape[1:]
  if ctas is None:
    about = f"{n} {xs[0].dtype}"
    ctas = tiles.gpu_ctas("sinkhorn/mosaic_gpu forward", about, _CTAS)
  ctas = max(1, min(ctas // count, m // _LEAST_ROWS))
  rest = n % _LANES
  windows = [pl.ds(0, n - rest)]
  if rest:
    windows.append(pl.ds(n - _LANES, _LANES))

  @functools.partial(
    plgpu.kernel,
    out_type=[
      jax.ShapeDtypeStruct((count, m), jnp.float32),
      jax.ShapeDtypeStruct((count, ctas, n), jnp.float32),
    ],
    grid=(count, ctas),
    grid_names=("matrix", "cta"),
    kernel_name="sinkhorn_pass",
    interpret=interpret,
  )
  def kernel(*refs):
    *x_refs, inverse_ref, v_ref, u_ref, sums_ref = refs
    k, i = lax.axis_index("matrix"), lax.axis_index("cta")
    factor = inverse_ref[k]
    columns = [_read(v_ref.at[k, window]) for window in windows]
    leaf = sum(((k >= end).astype(jnp.int32) for end in ends[:-1]), 0)

    def load(n, r):
      return [_read(x_refs[n].at[k - starts[n], r, w]) for w in windows]

    def row(r, totals):
      branches = [functools.partial(load, n, r) for n in range(len(xs))]
      x = [
        w.astype(jnp.float32) * factor for w in warpgroup.switch(leaf, branches)
      ]
      u = 1.0
      if not given:
        squares = [
          (w * column) ** 2 for w, column in zip(x, columns, strict=True)
        ]
        if rest:
          place = plgpu.broadcasted_iota(
            jnp.int32, (_LANES,), 0, layout=_layout(_LANES)
          )
          squares[1] = jnp.where(place < _LANES - rest, 0, squares[1])
        total, *others = map(jnp.sum, squares)
        u = ref.side(sum(others, total), n)
        u_ref[k, r] = u
      return [total + (w * u) ** 2 for total, w in zip(totals, x, strict=True)]

    def store(totals):
      if sums:
        for window, total in zip(windows, totals, strict=True):
          sums_ref[k, i, window] = total

    whole = m // ctas
    totals = lax.fori_loop(
      0,
      whole,
      lambda j, totals: row(i + j * ctas, totals),
      [column * 0 for column in columns],
    )
    store(totals)
    if m % ctas:

      @pl.when(i < m % ctas)
      def _():
        store(row(i + whole * ctas, totals))

  u, total = kernel(*xs, inverse, v)
  if given:
    u = jnp.ones_like(u)
  return u, jnp.sum(total, axis=1) if sums else None


def _layout(size: int) -> Any:
  vector = next(v for v in (4, 2, 1) if size % (v * _LANES) == 0)
  return plgpu.Layout.WG_STRIDED((size,), vector)


def _read(x: Any) -> Array:
  return plgpu.load(x, layout=_layout(x.shape[0]), optimized=False)
