"""The programs that a differentiable function is measured by."""

import dataclasses
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

import kernels_pallas
from kernels_pallas import dispatch
from kernels_pallas.specs import ArgumentSpec


@dataclasses.dataclass(frozen=True)
class Pass:
  """A function, and the shapes that it takes.

  Attributes:
    name: "forward", "keeping", "backward" or "both".
    function: of the arguments.
    arguments: trees of `jax.ShapeDtypeStruct`.
    donated: positions of arguments that are overwritten.
  """

  name: str
  function: Callable[..., Any]
  arguments: tuple[Any, ...]
  donated: tuple[int, ...] = ()


def size_bytes(tree: Any) -> int:
  """Of the arrays of a tree, or of shapes."""
  return sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def keeping(apply: Callable[..., Any]) -> Callable[..., Any]:
  """(y, other results, the backward pass as a tree of what it keeps)."""

  def run(wrt, fixed):
    y, vjp, rest = jax.vjp(lambda wrt: apply(wrt, fixed), wrt, has_aux=True)
    return y, rest, vjp

  return run


def differentiated(
  apply: Callable[[Any, Any], tuple[Any, Any]], wrt: Any, fixed: Any
) -> list[Pass]:
  """Passes of `apply(wrt, fixed) -> (y, other results)`.

  In one program the compiler may compute again what it would have to keep.
  Between programs it keeps what the derivative asks for, as between the layers
  of a scan: "keeping" is the forward pass that writes it, "backward" the pass
  that reads it.

  Args:
    apply: a pure function.
    wrt: shapes of what is differentiated.
    fixed: shapes of the rest.

  Returns:
    "forward", "keeping", "backward", "both". The first argument of "backward"
    is a tree whose leaves are what is kept.
  """
  keep = keeping(apply)

  def both(wrt, fixed, dy):
    y, rest, vjp = keep(wrt, fixed)
    return y, rest, vjp(dy)

  dy, _, kept = jax.eval_shape(keep, wrt, fixed)
  return [
    Pass("forward", apply, (wrt, fixed)),
    Pass("keeping", keep, (wrt, fixed)),
    Pass("backward", lambda vjp, dy: vjp(dy), (kept, dy)),
    Pass("both", both, (wrt, fixed, dy)),
  ]


def of_op(name: str, spec: ArgumentSpec, impl: str | None) -> list[Pass]:
  """Forward and, where there is one, backward pass of an op.

  Raises:
    UnsupportedError: the implementation does not serve what is traced for.
  """
  public = getattr(importlib.import_module(kernels_pallas.OPS[name]), name)
  op = _op(name)

  def run(*arrays):
    if spec.differentiated:
      # Specs have the order of the op; the function has a residual last.
      return op(*arrays, *spec.options.values(), impl=impl)
    # These are of many arrays at once, and their op is of one.
    return public(*arrays, impl=impl, **spec.options)

  return of_function(run, spec)


def of_function(run: Callable[..., Any], spec: ArgumentSpec) -> list[Pass]:
  """The same of a function of the arrays of a spec."""
  if not spec.differentiated:
    jax.eval_shape(run, *spec.shapes)  # Whether it is supported.
    return [Pass("forward", run, spec.shapes, spec.donated)]

  def apply(wrt, fixed):
    arrays = dict(zip(spec.differentiated, wrt, strict=True)) | fixed
    return run(*(arrays[i] for i in range(len(spec.shapes)))), None

  passes = differentiated(
    apply,
    tuple(spec.shapes[i] for i in spec.differentiated),
    {
      i: shape
      for i, shape in enumerate(spec.shapes)
      if i not in spec.differentiated
    },
  )
  return [each for each in passes if each.name in ("forward", "backward")]


def ideal_bytes(spec: ArgumentSpec, name: str) -> int:
  """Of the pass of that name."""
  return spec.ideal_backward_bytes if name == "backward" else spec.ideal_bytes


def specs(name: str) -> Sequence[ArgumentSpec]:
  """What the op is measured on; nothing if it names nothing."""
  module = importlib.import_module(f"{kernels_pallas.OPS[name]}.specs")
  return getattr(module, "SPECS", ())


def implementations(name: str) -> tuple[str, ...]:
  """What the op's `impl` may name."""
  return _op(name).implementations


def kernels(name: str) -> tuple[str, ...]:
  """Those of them that are Pallas kernels."""
  return tuple(each.name for each in _op(name).candidates if each.silicon)


def _op(name: str) -> dispatch.Op:
  return importlib.import_module(f"{kernels_pallas.OPS[name]}.api").OP
