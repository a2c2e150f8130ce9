"""The op and its implementations."""

import functools
import importlib
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from kernels_pallas import codes, dispatch, tiles
from kernels_pallas.adam_8bit_update import leaves
from kernels_pallas.adam_8bit_update.ref import Blocks, Scalars

_DTYPES = (jnp.float32, jnp.bfloat16)


def adam_8bit_update(
  parameters: Any,
  gradients: Any,
  mu_codes: Any,
  mu_absmax: Any,
  nu_codes: Any,
  nu_absmax: Any,
  scalars: Scalars | Array,
  *,
  decayed: Any = True,
  block_size: int = 256,
  block_layout: str = "rows",
  sign_repair: bool = True,
  impl: str | Sequence[str] | None = None,
) -> tuple[Any, Any, Any, Any, Any]:
  """One step of Adam whose moments are held in 8 bits, block by block.

      m = b1 m + (1 - b1) g            v = b2 v + (1 - b2) g^2
      w -= lr first m / (second sqrt(v) + eps);  w -= lr wd w
      m, v = quantize(m), quantize(v)

  arXiv:2110.02861, section 2, as `normjax.optim.adam_8bit`, whose arithmetic
  it is. With its arguments donated a kernel works in place and moves each
  buffer once; the kernels take many leaves per launch.

  Args:
    parameters: one array or a tree of them, float32 or bfloat16 in a kernel.
    gradients: of the parameters' structure, as all that follows.
    mu_codes: uint8, of the parameters' shapes; or the moment itself, float32.
    mu_absmax: scales of the blocks, float32: (..., ceil(last / block_size)) or,
      flat, (ceil(size / block_size),); None where the moment is float32.
    nu_codes: as `mu_codes`, of the second moment, without signs.
    nu_absmax: as `mu_absmax`.
    scalars: `Scalars`, or an array (7,) in their order; traced.
    decayed: whether a leaf decays; one boolean, or a tree of them.
    block_size: entries that share a scale.
    block_layout: "rows" or "flat".
    sign_repair: keeps negative entries of m from rounding to 0.
    impl: "mosaic_gpu", for NVIDIA's Hopper; "pallas_tpu"; "xla", plain
      operations with arithmetic codes; "reference", the same with the table.
      None takes the first that runs here, a kernel only if a device of the
      kind has proved it; a tuple is tried in its order, for each leaf.

  Returns:
    Parameters, mu_codes, mu_absmax, nu_codes, nu_absmax after the step.

  Raises:
    TypeError: a parameter that is not floating.
    ValueError: shapes that do not fit.
    UnsupportedError: no implementation that was asked for runs here.
  """
  options = Blocks(block_size, block_layout, sign_repair)
  given, structure = leaves.rows(
    parameters, gradients, mu_codes, mu_absmax, nu_codes, nu_absmax
  )
  decayed = leaves.flags(decayed, structure)
  moved: list[Any] = [None] * len(given)
  for name, members in _op(options).by_leaf(impl, given).items():
    new = _FUNCTIONS[name](
      *([given[n][column] for n in members] for column in range(6)),
      scalars,
      decayed=[decayed[n] for n in members],
      blocks=options,
    )
    for n, *leaf in zip(members, *new, strict=True):
      moved[n] = leaf
  return leaves.trees(moved, structure)


def _check(w, g, mu_codes, mu_absmax, nu_codes, nu_absmax, *, blocks: Blocks):
  if not jnp.issubdtype(w.dtype, jnp.floating):
    raise TypeError(
      f"adam_8bit_update needs floating parameters; got dtype {w.dtype}."
    )
  shape = scale_shape(w.shape, blocks)
  for name, x, expected in (
    ("a gradient", g, w.shape),
    ("mu_codes", mu_codes, w.shape),
    ("nu_codes", nu_codes, w.shape),
    ("mu_absmax", mu_absmax, shape),
    ("nu_absmax", nu_absmax, shape),
  ):
    if x is not None and x.shape != expected:
      raise ValueError(
        f"adam_8bit_update needs {name} of shape {expected} beside a parameter"
        f" of shape {w.shape}; got {x.shape}."
      )
  if (mu_absmax is None) != (nu_absmax is None):
    raise ValueError(
      "adam_8bit_update needs both mu_absmax and nu_absmax, or neither."
    )


def scale_shape(shape: tuple[int, ...], blocks: Blocks) -> tuple[int, ...]:
  """The shape of absmax, of a leaf of this shape."""
  if blocks.layout == "flat" or not shape:
    shape = (math.prod(shape),)
  size = max(1, min(blocks.size, shape[-1]))
  return (*shape[:-1], math.ceil(shape[-1] / size))


# Pallas costs half a second to import; only an accelerator has use for it.
def _mosaic_gpu(*arguments: Any, **options: Any) -> leaves.Trees:
  from kernels_pallas.adam_8bit_update import gpu

  return gpu.adam_8bit_update(*arguments, **options)


def _pallas_tpu(*arguments: Any, **options: Any) -> leaves.Trees:
  from kernels_pallas.adam_8bit_update import tpu

  return tpu.adam_8bit_update(*arguments, **options)


# Of the op's arguments; blocks are `blocks`, those of the op by default.
_FUNCTIONS = {
  "mosaic_gpu": _mosaic_gpu,
  "pallas_tpu": _pallas_tpu,
  "xla": functools.partial(leaves.of_trees, leaves.plain("arithmetic")),
  "reference": functools.partial(leaves.of_trees, leaves.plain("table")),
}


def _supports(platform: str, blocks: Blocks) -> dispatch.Supports:
  def supports(
    target: dispatch.Target,
    shapes: dispatch.Shapes,
    dtypes: Sequence[DTypeLike],
  ) -> str | None:
    reason = tiles.elsewhere(platform, target)
    if reason is not None:
      return reason
    kernel = importlib.import_module(f"{__package__}.{platform}")
    for dtype in dtypes[:2]:
      if dtype not in _DTYPES:
        return f"needs float32 or bfloat16, not {dtype}"
    # Without scales a leaf has four arrays, and the step may have one.
    reason = kernel.supports(shapes[0], blocks, exact=len(shapes) < 6)
    return reason or dispatch.one_device(target)

  return supports


def _not_cpu(target, shapes, dtypes) -> str | None:
  del shapes, dtypes
  if codes.form(target) == "arithmetic":
    return None
  return "a CPU reads the table faster"


@functools.cache
def _op(blocks: Blocks) -> dispatch.Op:
  """The op for blocks of this kind, of one leaf: what `choose` decides by."""

  def candidate(name, supports=dispatch.anywhere, silicon=False):
    return dispatch.Candidate(name, _FUNCTIONS[name], supports, silicon)

  return dispatch.Op(
    "adam_8bit_update",
    (
      candidate("mosaic_gpu", _supports("gpu", blocks), silicon=True),
      candidate("pallas_tpu", _supports("tpu", blocks), silicon=True),
      candidate("xla", _not_cpu),
      candidate("reference"),
    ),
    functools.partial(_check, blocks=blocks),
  )


OP = _op(Blocks())
IMPLEMENTATIONS = OP.implementations
