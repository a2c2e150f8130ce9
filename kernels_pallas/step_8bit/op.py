"""The op of a rule: its implementations, what they refuse, how it runs."""

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from kernels_pallas import codes, dispatch, tiles
from kernels_pallas.step_8bit import leaves
from kernels_pallas.step_8bit.rule import Blocks, Rule, scale_shape

_DTYPES = (jnp.float32, jnp.bfloat16)


def of(
  rule: Rule,
  mosaic_gpu: Callable[..., Any],
  pallas_tpu: Callable[..., Any],
  blocks: Blocks,
) -> dispatch.Op:
  """The op for blocks of this kind, of one leaf: what `choose` decides by.

  Args:
    rule: of the optimizer.
    mosaic_gpu: takes the op's arguments, of trees too, and `blocks`.
    pallas_tpu: likewise.
    blocks: how moments are cut.
  """
  return dispatch.Op(
    rule.name,
    (
      dispatch.Candidate(
        "mosaic_gpu", mosaic_gpu, _supports("gpu", blocks), silicon=True
      ),
      dispatch.Candidate(
        "pallas_tpu", pallas_tpu, _supports("tpu", blocks), silicon=True
      ),
      dispatch.Candidate("xla", _plain(rule, "arithmetic"), _not_cpu),
      dispatch.Candidate("reference", _plain(rule, "table")),
    ),
    functools.partial(_check, rule, blocks),
  )


def _plain(rule: Rule, form: str) -> Callable[..., Any]:
  return functools.partial(leaves.of_trees, leaves.plain(form), rule)


def run(
  op: dispatch.Op,
  rule: Rule,
  parameters: Any,
  gradients: Any,
  *moments: Any,
  scalars: Any,
  decayed: Any,
  blocks: Blocks,
  impl: str | Sequence[str] | None,
) -> leaves.Results:
  """The results of trees: each leaf by the first candidate that takes it."""
  fields = rule.scalars._fields
  if len(scalars) not in (len(fields) - 1, len(fields)):
    raise ValueError(
      f"{rule.name} needs the scalars {', '.join(fields)} (the last may be left"
      f" out); got {len(scalars)} numbers."
    )
  given, structure = leaves.rows(parameters, gradients, *moments)
  decayed = leaves.flags(decayed, structure)
  functions = {each.name: each.function for each in op.candidates}
  moved: list[Any] = [None] * len(given)
  squares = jnp.zeros((), jnp.float32)
  for name, members in op.by_leaf(impl, given).items():
    *new, more = functions[name](
      *([given[n][k] for n in members] for k in range(2 + len(moments))),
      scalars,
      decayed=[decayed[n] for n in members],
      blocks=blocks,
    )
    squares += more
    for n, *leaf in zip(members, *new, strict=True):
      moved[n] = leaf
  return *leaves.trees(moved, structure, rule), squares


def _check(rule: Rule, blocks: Blocks, w: Array, g: Array, *moments: Any):
  if not jnp.issubdtype(w.dtype, jnp.floating):
    raise TypeError(
      f"{rule.name} needs floating parameters; got dtype {w.dtype}."
    )
  shape = scale_shape(w.shape, blocks)
  names = [f"{name}_{part}" for name in _NAMES for part in ("codes", "absmax")]
  pairs = list(zip(names, moments, strict=False))
  for name, x in [("a gradient", g), *pairs]:
    expected = shape if name.endswith("absmax") else w.shape
    if x is not None and x.shape != expected:
      raise ValueError(
        f"{rule.name} needs {name} of shape {expected} beside a parameter"
        f" of shape {w.shape}; got {x.shape}."
      )
  scales = [name for name, _ in pairs if name.endswith("absmax")]
  given = {x is None for name, x in pairs if name in scales}
  if len(given) > 1:
    raise ValueError(
      f"{rule.name} needs both {' and '.join(scales)}, or neither."
    )


# Of moments, in their order.
_NAMES = ("mu", "nu")


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
    exact = jnp.issubdtype(dtypes[2], jnp.floating)
    reason = kernel.supports(shapes[0], blocks, exact=exact)
    return reason or dispatch.one_device(target)

  return supports


def _not_cpu(target, shapes, dtypes) -> str | None:
  del shapes, dtypes
  if codes.form(target) == "arithmetic":
    return None
  return "a CPU reads the table faster"
