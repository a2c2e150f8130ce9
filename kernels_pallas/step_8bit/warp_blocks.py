"""What a block of threads does in a step: loads, the rule, scales, stores.

A warp has a block of a row in its registers, eight entries per thread, and
finds its scale by shuffles alone.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.pallas import mosaic_gpu as plgpu

from kernels_pallas import codes
from kernels_pallas.step_8bit import rule as rule_lib
from kernels_pallas.step_8bit.rule import Blocks, Rule

BLOCK = 256
ROWS = 4  # of a step: one per warp
LANES = 128  # threads of a step
ALIGNED = 8  # entries per thread, loaded and stored as one vector

_TILE = plgpu.Layout.TILED(
  plgpu.Tiling(((ROWS, BLOCK), (ALIGNED,))),
  warp_dims=(-3,),
  lane_dims=(-2,),
  vector_dim=-1,
)
_PER_ROW = plgpu.Layout.TILED(
  plgpu.Tiling(((ROWS,), (1,))),
  warp_dims=(-2,),
  lane_dims=(plgpu.Replicated(32),),
  vector_dim=-1,
)


def load(buffers: Any, windows: Any) -> list[tuple[Any, Any]]:
  """For each window: parameter, gradient, moments; and the moments' scales."""
  leaf, gradient = buffers
  entries = leaf.parameter, gradient, *(m.codes for m in leaf.moments)
  return [
    (
      tuple(_read(x.at[where]) for x in entries),
      tuple(
        plgpu.load(m.absmax.at[scales], layout=_PER_ROW, optimized=False)
        for m in leaf.moments
        if m.absmax is not None
      ),
    )
    for where, scales in windows()
  ]


def store(buffers: Any, windows: Any, out: Any) -> None:
  """Writes what a step gave for each window."""
  leaf, _ = buffers
  for (where, scales), (w, new, absmax) in zip(windows(), out, strict=True):
    leaf.parameter[where] = w
    for moment, x in zip(leaf.moments, new, strict=True):
      moment.codes[where] = x
    for moment, x in zip(leaf.moments, absmax, strict=False):
      moment.absmax[scales] = x


def _read(x: Any) -> Array:
  if len(x.shape) == 1:
    layout = plgpu.Layout.WG_STRIDED(x.shape, x.shape[0] // LANES)
  else:
    layout = _TILE
  return plgpu.load(x, layout=layout, optimized=False)


def exact_step(
  rule: Rule, loaded: Any, scalars: Any, decay: Array, blocks: Blocks
) -> tuple[list[Any], Array]:
  """Of float32 moments."""
  del blocks
  (((w, g, *moments), _),) = loaded
  w, squares, moments = rule_lib.moved(rule, w, g, moments, scalars, decay)
  # As sums of rows, of which there are as many in the other steps.
  squares = lax.broadcast(jnp.sum(squares) / ROWS, (ROWS,))
  squares = plgpu.layout_cast(squares, _PER_ROW)
  return [(w, moments, ())], squares


def step(
  rule: Rule,
  loaded: Any,
  scalars: Any,
  decay: Array,
  blocks: Blocks,
  *,
  shared: int,
) -> tuple[list[Any], Array]:
  """Of one window, or of two that share the second's first columns."""
  column = plgpu.broadcasted_iota(jnp.int32, (ROWS, BLOCK), 1, layout=_TILE)

  def spread(values, last):
    """Of each window the value of each entry's block."""
    wide = [lax.broadcast_in_dim(x, (ROWS, BLOCK), (0,)) for x in values]
    if last:
      wide[1] = jnp.where(column < shared, *wide)
    return wide

  def own(x, second):
    """What belongs to the window: what two share is the first one's."""
    return jnp.where(column < shared, 0, x) if second else x

  two = len(loaded) == 2
  entries, scales = zip(*loaded, strict=True)
  old = [spread(s, two) for s in zip(*scales, strict=True)]
  parameters, squares, moments = [], [], []
  for n, (w, g, *held) in enumerate(entries):
    wide = [
      codes.value(x.astype(jnp.int32), signed) * scale[n]
      for x, signed, scale in zip(held, rule.signed, old, strict=True)
    ]
    w, square, wide = rule_lib.moved(rule, w, g, wide, scalars, decay)
    parameters.append(w)
    squares.append(jnp.sum(own(square, n == 1), axis=1))
    moments.append([codes.finite(x) for x in wide])

  found = [
    [jnp.max(own(jnp.abs(x), n == 1), axis=1) for x in window]
    for n, window in enumerate(moments)
  ]
  new = [spread(s, two) for s in zip(*found, strict=True)]
  out = []
  for n, (w, window) in enumerate(zip(parameters, moments, strict=True)):
    stored = [
      codes.relative(x, scale[n], signed, blocks.sign_repair and signed)
      for x, scale, signed in zip(window, new, rule.signed, strict=True)
    ]
    out.append((w, [x.astype(jnp.uint8) for x in stored], found[n]))
  return out, sum(squares[1:], squares[0])
