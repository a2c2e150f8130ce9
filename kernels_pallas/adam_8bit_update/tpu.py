"""A Pallas kernel for TPU: every buffer is read and written once, in place.

One launch per leaf. A step has some rows and a block of their columns. The
scales of a row are too few for a block of their own: a step has them all, takes
its column of them by a mask, and the last step writes them.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from kernels_pallas import codes
from kernels_pallas.adam_8bit_update import leaves as leaves_lib
from kernels_pallas.adam_8bit_update import ref
from kernels_pallas.adam_8bit_update.ref import Leaf, Scalars
from kernels_pallas.codes import Quantized
from kernels_pallas.precision import promote

_LANES = 128
_ROWS = 256  # of a step, at most: some 20 float32 temporaries of 256 KiB
_SUBLANES = 32  # rows of a tile of uint8


def supports(
  shape: tuple[int, ...], blocks: ref.Blocks, *, exact: bool
) -> str | None:
  """Why the kernel cannot take a leaf; `exact`: of float32 moments."""
  if exact:
    return "holds moments in 8 bits; XLA fuses those of float32 as well"
  if blocks.size % _LANES:
    return f"needs blocks of a multiple of {_LANES}, not {blocks.size}"
  rows, width = ref.matrix(shape, blocks)
  if width < blocks.size or not rows:
    return f"needs rows of {blocks.size} values or more, not shape {shape}"
  return None


def adam_8bit_update(
  *arguments: Any, interpret: Any = False, **options: Any
) -> leaves_lib.Trees:
  """The op's results; arguments as `leaves.of_trees` has them."""
  kernel = functools.partial(update, interpret=interpret)
  return leaves_lib.of_trees(
    leaves_lib.by_kernel(kernel), *arguments, **options
  )


def update(
  leaves: Sequence[Leaf],
  gradients: Sequence[Array],
  scalars: Scalars,
  *,
  decayed: Sequence[bool],
  blocks: ref.Blocks,
  interpret: Any = False,
) -> list[Leaf]:
  """The leaves after one step; see `ref.update_leaf`."""
  numbers = jnp.stack([jnp.asarray(s, jnp.float32) for s in scalars])
  rows = zip(leaves, gradients, decayed, strict=True)
  return [
    _update(leaf, g, numbers, decay, blocks, interpret)
    for leaf, g, decay in rows
  ]


def _update(leaf, gradient, numbers, decayed, blocks, interpret) -> Leaf:
  rows, width = ref.matrix(leaf.parameter.shape, blocks)
  count = math.ceil(width / blocks.size)
  size = min(_ROWS, math.ceil(rows / _SUBLANES) * _SUBLANES)
  tile = pl.BlockSpec((size, blocks.size), lambda i, k: (i, k))
  scales = pl.BlockSpec((size, count), lambda i, k: (i, 0))

  def view(x):
    return x.reshape(rows, -1)

  w, mu, nu = leaf
  arrays = [view(x) for x in (w, gradient, mu.codes, nu.codes, *_scales(leaf))]
  new = pl.pallas_call(
    functools.partial(_kernel, width=width, decayed=decayed, blocks=blocks),
    grid=(pl.cdiv(rows, size), count),
    in_specs=[
      pl.BlockSpec(memory_space=pltpu.SMEM),
      *[tile] * 4,
      *[scales] * 2,
    ],
    out_specs=[*[tile] * 3, *[scales] * 2],
    out_shape=[
      jax.ShapeDtypeStruct(x.shape, x.dtype)
      for n, x in enumerate(arrays)
      if n != 1
    ],
    # Interpreted, a buffer in place keeps the size of its last, ragged block.
    input_output_aliases=({} if interpret else {1: 0, 3: 1, 4: 2, 5: 3, 6: 4}),
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "arbitrary")
    ),
    cost_estimate=pl.CostEstimate(
      flops=120 * w.size,
      bytes_accessed=sum(2 * x.size * x.dtype.itemsize for x in arrays)
      - gradient.size * gradient.dtype.itemsize,
      transcendentals=w.size,
    ),
    interpret=interpret,
    name="adam_8bit_update",
  )(numbers, *arrays)
  w, mu, nu, mu_absmax, nu_absmax = (
    x.reshape(old.shape)
    for x, old in zip(new, (w, mu.codes, nu.codes, *_scales(leaf)), strict=True)
  )
  return Leaf(w, Quantized(mu, mu_absmax), Quantized(nu, nu_absmax))


def _scales(leaf: Leaf) -> tuple[Array, Array]:
  return leaf.mu.absmax, leaf.nu.absmax


def _kernel(
  numbers_ref,
  w_ref,
  g_ref,
  mu_ref,
  nu_ref,
  old_m_ref,
  old_v_ref,
  new_w_ref,
  new_mu_ref,
  new_nu_ref,
  new_m_ref,
  new_v_ref,
  *,
  width: int,
  decayed: bool,
  blocks: ref.Blocks,
):
  block = pl.program_id(1)
  mine = (
    lax.broadcasted_iota(jnp.int32, old_m_ref.shape, 1) == block
  )  # The scales of this step's columns.

  def scale(held_ref):
    return jnp.sum(jnp.where(mine, held_ref[...], 0), axis=1, keepdims=True)

  scalars = Scalars(*(numbers_ref[n] for n in range(len(Scalars._fields))))
  g = promote(g_ref[...])
  m = codes.value(mu_ref[...].astype(jnp.int32), True) * scale(old_m_ref)
  v = codes.value(nu_ref[...].astype(jnp.int32), False) * scale(old_v_ref)
  direction, m, v = ref.direction(g, m, v, scalars)
  rate = scalars.learning_rate
  decay = rate * scalars.weight_decay if decayed else None
  new_w_ref[...] = ref.moved(w_ref[...], g, direction, rate, decay)
  if width % blocks.size:
    # Columns past the end hold anything, and must not reach a scale.
    column = lax.broadcasted_iota(jnp.int32, m.shape, 1) + block * blocks.size
    m, v = (jnp.where(column < width, x, 0) for x in (m, v))
  for x, signed, codes_ref, absmax_ref in (
    (m, True, new_mu_ref, new_m_ref),
    (v, False, new_nu_ref, new_v_ref),
  ):
    found, absmax = codes.of_block(x, signed, blocks.sign_repair)
    codes_ref[...] = found.astype(jnp.uint8)
    absmax_ref[...] = jnp.where(mine, absmax, absmax_ref[...])
