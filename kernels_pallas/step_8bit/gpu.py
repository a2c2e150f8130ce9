"""A Mosaic GPU kernel: every buffer is read once and written once, in place.

A launch takes several leaves, each by its own buffers. A step of a block of
threads has four rows of one leaf and a block of 256 columns of each, so that a
warp has a block in its registers, eight entries per thread (loads of 16 bytes),
and finds its scale by shuffles alone. Nothing goes through shared memory.

A row may end with a short block. Then its last whole block and the 256 columns
that the row ends with are one step: what the two windows share they load
before either is written, each entry takes the scale of its own block, and so
both write the same there.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from kernels_pallas import tiles, warpgroup
from kernels_pallas.codes import Quantized
from kernels_pallas.step_8bit import leaves as leaves_lib
from kernels_pallas.step_8bit import rule as rule_lib
from kernels_pallas.step_8bit import warp_blocks
from kernels_pallas.step_8bit.rule import Blocks, Leaf, Rule
from kernels_pallas.step_8bit.warp_blocks import BLOCK, ROWS

# Blocks of threads that a multiprocessor runs: by how many moments there are in
# 8 bits, and whether rows end with a short block. They need up to 72,
# 127, 104 and 164 registers per thread; those of float32 moments fewer.
_RESIDENT = {(1, False): 6, (1, True): 4, (2, False): 4, (2, True): 3}
# Of a launch: compiling takes time that grows faster than they do, and steps of
# two windows twice as long.
_MOST_LEAVES = 16
_MOST_SHORT = 8


def supports(
  shape: tuple[int, ...], blocks: Blocks, *, exact: bool
) -> str | None:
  """Why the kernel cannot take a leaf; `exact`: of float32 moments."""
  if exact:
    if math.prod(shape) % warp_blocks.LANES or not math.prod(shape):
      return (
        f"needs a multiple of {warp_blocks.LANES} entries, not shape {shape}"
      )
    return tiles.gpu_offsets_refuse(shape)
  if blocks.size != BLOCK:
    return f"needs blocks of {BLOCK}, not {blocks.size}"
  rows, width = rule_lib.matrix(shape, blocks)
  if width < BLOCK or width % warp_blocks.ALIGNED:
    return f"needs rows of {BLOCK} or more, in eights, not shape {shape}"
  if rows % ROWS or not rows:
    return f"needs a multiple of {ROWS} rows, not shape {shape}"
  return tiles.gpu_offsets_refuse(shape)


class _Run(NamedTuple):
  """Steps of one kind that a launch takes of one leaf.

  Attributes:
    leaf: the number of the leaf in the launch.
    steps: how many.
    windows: from the number of a step to the indices (of entries, of scales)
      of its windows.
  """

  leaf: int
  steps: int
  windows: Callable[[Any], list[tuple[Any, Any]]]


class _Kind(NamedTuple):
  """What leaves of one launch have in common.

  Attributes:
    entries: of a row, where moments are in 8 bits and rows end with a short
      block: of that; else 0. Of a step, where moments are float32.
    exact: whether moments are float32.
    dtypes: of the parameter and its gradient.
  """

  entries: int
  exact: bool
  dtypes: tuple[Any, ...]


def step(
  rule: Rule, *arguments: Any, interpret: Any = None, **options: Any
) -> leaves_lib.Results:
  """The op's results; arguments as `leaves.of_trees` has them."""
  kernel = functools.partial(update, interpret=interpret)
  return leaves_lib.of_trees(
    leaves_lib.by_kernel(kernel), rule, *arguments, **options
  )


def update(
  rule: Rule,
  leaves: Sequence[Leaf],
  gradients: Sequence[Array],
  scalars: Any,
  *,
  decayed: Sequence[bool],
  blocks: Blocks,
  ctas: int | None = None,
  interpret: Any = None,
) -> tuple[list[Leaf], Array]:
  """The leaves after one step, and the sum of the steps' squares.

  Args:
    rule: of the optimizer.
    leaves: any that `supports` allows.
    gradients: of each.
    scalars: of the step; traced.
    decayed: whether each decays.
    blocks: as `supports` allows them.
    ctas: how many blocks of threads a launch has, at most; None for as many
      as run beside each other.
    interpret: as `plgpu.kernel` has it.
  """
  numbers = jnp.stack([jnp.asarray(s, jnp.float32) for s in scalars])
  held = [jax.tree.map(jax.new_ref, _view(leaf, blocks)) for leaf in leaves]
  launches: dict[_Kind, list[int]] = {}
  gradients = [
    g.reshape(leaf.parameter.shape)
    for g, leaf in zip(gradients, held, strict=True)
  ]
  for n, leaf in enumerate(held):
    launches.setdefault(_kind(leaf, gradients[n]), []).append(n)
  squares = []
  for kind, members in launches.items():
    short = bool(kind.entries) and not kind.exact
    most = _MOST_SHORT if short else _MOST_LEAVES
    moments = "float32" if kind.exact else "8 bits, short rows" * short
    resident = tiles.gpu_ctas(
      f"{rule.name}/mosaic_gpu forward",
      moments or "8 bits",
      _RESIDENT[len(rule.signed), short],
    )
    for group in itertools.batched(members, most):
      squares += _launch(
        rule,
        kind,
        [(held[n], gradients[n]) for n in group],
        numbers,
        [decayed[n] for n in group],
        blocks,
        ctas or resident,
        interpret,
      )
  moved = [
    jax.tree.map(lambda r, x: jax.freeze(r).reshape(x.shape), new, old)
    for new, old in zip(held, leaves, strict=True)
  ]
  # Barred, or each launch has a sum of its own.
  return moved, jnp.sum(lax.optimization_barrier(jnp.concatenate(squares)))


def _view(leaf: Leaf, blocks: Blocks) -> Leaf:
  """The leaf as matrices, or as vectors if its moments are float32."""
  if _is_exact(leaf):
    return jax.tree.map(lambda x: x.reshape(-1), leaf)
  rows, width = rule_lib.matrix(leaf.parameter.shape, blocks)

  def moment(held):
    codes, absmax = held
    return Quantized(codes.reshape(rows, width), absmax.reshape(rows, -1))

  parameter = leaf.parameter.reshape(rows, width)
  return Leaf(parameter, tuple(map(moment, leaf.moments)))


def _is_exact(leaf: Leaf) -> bool:
  """Whether its moments are float32."""
  return leaf.moments[0].absmax is None


def _kind(leaf: Leaf, gradient: Array) -> _Kind:
  exact = _is_exact(leaf)
  width = leaf.parameter.shape[-1]
  entries = (
    math.gcd(width, warp_blocks.LANES * warp_blocks.ALIGNED)
    if exact
    else width % BLOCK
  )
  return _Kind(entries, exact, (leaf.parameter.dtype, gradient.dtype))


def _runs(kind: _Kind, leaves: Sequence[Leaf]) -> list[tuple[Any, list[_Run]]]:
  """What a step does, and of which leaves: one kind of steps or two."""
  if kind.exact:
    size = kind.entries
    return [
      (
        warp_blocks.exact_step,
        [
          _Run(
            n,
            leaf.parameter.shape[0] // size,
            lambda t: [(pl.ds(t * size, size), None)],
          )
          for n, leaf in enumerate(leaves)
        ],
      )
    ]

  def window(r, column, block):
    r = pl.ds(pl.multiple_of(r * ROWS, ROWS), ROWS)
    return (r, pl.ds(column, BLOCK)), (r, block)

  alone, last_two = [], []
  for n, leaf in enumerate(leaves):
    rows, width = leaf.parameter.shape
    whole = width // BLOCK
    count = whole - 1 if kind.entries else whole

    def one(t, count=count):
      return [window(t // count, t % count * BLOCK, t % count)]

    def two(t, whole=whole, width=width):
      return [
        window(t, (whole - 1) * BLOCK, whole - 1),
        window(t, width - BLOCK, whole),
      ]

    if count:
      alone.append(_Run(n, rows // ROWS * count, one))
    if kind.entries:
      last_two.append(_Run(n, rows // ROWS, two))
  step = functools.partial(warp_blocks.step, shared=BLOCK - kind.entries)
  return [(step, runs) for runs in (alone, last_two) if runs]


def _launch(
  rule, kind, leaves, numbers, decayed, blocks, ctas, interpret
) -> list[Array]:
  """All steps of some leaves, dealt out to the blocks of threads in turn.

  Returns:
    Sums of the steps' squares; of all of them the sum is the leaves'.
  """
  runs = _runs(kind, [leaf for leaf, _ in leaves])
  total = sum(run.steps for _, some in runs for run in some)
  ctas = min(ctas, total)
  arguments, structure = jax.tree.flatten((leaves, numbers))

  @functools.partial(
    plgpu.kernel,
    # A number per step and row: nothing is added up between steps.
    out_type=jax.ShapeDtypeStruct((total * ROWS,), jnp.float32),
    grid=(ctas,),
    grid_names=("i",),
    kernel_name=rule.name,
    interpret=interpret,
  )
  def kernel(*refs):
    *refs, squares_ref = refs
    buffers, numbers_ref = structure.unflatten(refs)
    scalars = rule.scalars(*(numbers_ref[n] for n in range(len(numbers))))
    decay = rule.decay(scalars)

    def turn(j, _):
      t = lax.axis_index("i") + j * ctas
      first = 0
      for step, some in runs:
        ends = [
          first + end for end in itertools.accumulate(run.steps for run in some)
        ]

        @pl.when((t >= first) & (t < ends[-1]))
        def _(step=step, some=some, starts=(first, *ends)):
          n = sum(((t >= end).astype(jnp.int32) for end in starts[1:-1]), 0)
          pieces = [
            (buffers[run.leaf], functools.partial(run.windows, t - start))
            for run, start in zip(some, starts, strict=False)
          ]
          loaded = warpgroup.switch(
            n, [functools.partial(warp_blocks.load, *p) for p in pieces]
          )
          share = sum(
            jnp.where(n == i, float(decayed[run.leaf]), 0.0)
            for i, run in enumerate(some)
          )
          out, squares = step(rule, loaded, scalars, decay * share, blocks)
          warpgroup.switch(
            n, [functools.partial(warp_blocks.store, *p, out) for p in pieces]
          )
          squares_ref[pl.ds(pl.multiple_of(t * ROWS, ROWS), ROWS)] = squares

        first = ends[-1]

    lax.fori_loop(0, pl.cdiv(total, ctas), turn, None)

  return [kernel(*arguments)]
