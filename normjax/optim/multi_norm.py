"""Gradient multi-normalization: Scetbon et al. 2025, arXiv:2502.06742."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard

import jax.numpy as jnp
import optax
from jax import lax

from normjax import errors, validate
from normjax.optim import compose, meshes, safe, stacking, whitening
from normjax.optim import dims as dims_lib
from normjax.types import Array

__all__ = ["scale_by_multi_norm"]

# The sums of each l2 projection: axes of (batch, inputs, outputs).
_L2_AXES: Mapping[str, tuple[int, ...]] = {
  "row_l2": (1,),
  "column_l2": (2,),
  "frobenius": (1, 2),
}
_OTHERS: Mapping[str, Callable[[Array], Array]] = {
  "sign": jnp.sign,
  "spectral": whitening.whiten,
}
NAMES = (*_L2_AXES, *_OTHERS)

Projection = str | Callable[[Array], Array]


def _is_l2(projection: Projection) -> TypeGuard[str]:
  return isinstance(projection, str) and projection in _L2_AXES


def _value(x: Array, scales: Mapping[str, Array]) -> Array:
  return math.prod(scales.values(), start=x)


def _round(
  x: Array, scales: Mapping[str, Array], projections: Sequence[Projection]
) -> tuple[Array, dict[str, Array]]:
  """Each projection once, of x times its scales."""
  scales = dict(scales)
  for projection in projections:
    if _is_l2(projection):
      axes = _L2_AXES[projection]
      # The side's new scale replaces its old one.
      scales.pop(projection, None)
      square = jnp.sum(_value(x, scales) ** 2, axis=axes, keepdims=True)
      size = math.prod(x.shape[axis] for axis in axes)
      scales[projection] = math.sqrt(size) * safe.rsqrt(square)
    else:
      project = (
        _OTHERS[projection] if isinstance(projection, str) else projection
      )
      x = project(_value(x, scales))
      scales.clear()
  return x, scales


def _first_scales(
  x: Array, projections: Sequence[Projection]
) -> dict[str, Array]:
  """Ones, for the scales that a round leaves."""
  names: dict[str, None] = {}
  for projection in projections:
    if _is_l2(projection):
      names.pop(projection, None)
      names[projection] = None
    else:
      names.clear()
  return {
    name: jnp.ones_like(
      x, shape=[1 if n in _L2_AXES[name] else s for n, s in enumerate(x.shape)]
    )
    for name in names
  }


def alternate(
  x_bio: Array, projections: Sequence[Projection], num_iters: int | Array
) -> Array:
  """Applies the projections in turn, num_iters times.

  After l2 projections the iterate is diag(u) X diag(v), so that they move
  only the two vectors: X is read, and written once at the end.

  Args:
    x_bio: matrices (batch, inputs, outputs). Computed in float32 at least.
    projections: see `scale_by_multi_norm`.
    num_iters: rounds.

  Returns:
    The shape and dtype of x.
  """
  x = safe.promote(x_bio)
  x = safe.divide(x, safe.largest(x, (1, 2)))
  scales: dict[str, Array] = {}
  if isinstance(num_iters, int):
    for _ in range(num_iters):
      x, scales = _round(x, scales, projections)
    return _value(x, scales).astype(x_bio.dtype)
  # A loop carries the same scales before and after a round, in their order,
  # which a dict loses there.
  scales = _first_scales(x, projections)

  def step(_, carry):
    x, held = carry
    x, new = _round(x, dict(zip(scales, held, strict=True)), projections)
    return x, list(new.values())

  x, held = lax.fori_loop(0, num_iters, step, (x, list(scales.values())))
  scales = dict(zip(scales, held, strict=True))
  return _value(x, scales).astype(x_bio.dtype)


def _validate(projections: Sequence[Projection]) -> None:
  if not projections or isinstance(projections, str):
    raise errors.UserError(
      f"scale_by_multi_norm: norms={projections!r}; allowed: a list of at"
      f" least one of {', '.join(map(repr, NAMES))} or a function."
    )
  for projection in projections:
    if not callable(projection):
      validate.choice("scale_by_multi_norm", "norms", projection, NAMES)


@meshes.on_any_mesh
def scale_by_multi_norm(
  norms: Sequence[Projection],
  num_iters: int | Array = 5,
  *,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """Normalises each matrix with respect to several norms at once.

      X = P_K(... P_1(X))     num_iters times, from the gradient

  the alternating scheme of arXiv:2502.06742, where P_k(X) is the steepest
  descent of norm k at a fixed size: every projection leaves a root mean
  square of 1, so that the step's size does not depend on the gradient's, nor
  on the norm. Stateless; leaves without dims pass unchanged. SinkGD is
  ("row_l2", "column_l2") five times; SWAN without centring is ("row_l2",
  "spectral") once. Matrices of one shape are processed together.

  Args:
    norms: in the order of their use, of
      "row_l2": each output unit's inputs, PyTorch's row, to RMS 1;
      "column_l2": each input's outputs to RMS 1;
      "frobenius": the whole matrix to RMS 1;
      "spectral": all singular values alike, by `whiten` and thus inexactly;
      "sign": the sign of every entry;
      or a function of matrices (batch, inputs, outputs) to the same shape.
    num_iters: rounds over all of them, >= 1, may be traced.
    dims: the matrices: a tree of `MatrixDims` and None, or a function from
      params to one; None for `default_dims`.

  Raises:
    UserError: no norm, an unknown one, or num_iters below 1.
    TypeError: num_iters that is no int.
  """
  _validate(norms)
  validate.traced_count("scale_by_multi_norm", "num_iters", num_iters)

  def direction(leaves, entries):
    matrices = [
      dims_lib.to_matrices(x, entry)
      for x, entry in zip(leaves, entries, strict=True)
    ]
    only_sums = all(map(_is_l2, norms))
    moved = stacking.stacked(
      lambda x: alternate(x, norms, num_iters),
      matrices,
      in_cache=only_sums,
      whole=not only_sums,
    )
    return [
      dims_lib.from_matrices(y, x.shape, entry)
      for x, y, entry in zip(leaves, moved, entries, strict=True)
    ]

  return compose.per_leaf("scale_by_multi_norm", direction, dims)
