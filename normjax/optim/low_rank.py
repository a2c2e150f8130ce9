"""Adam on a projected gradient: what GaLore, Fira and APOLLO share."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from normjax import validate
from normjax.optim import (
  compose,
  meshes,
  projection,
  safe,
  transformers_adam,
)
from normjax.optim import dims as dims_lib
from normjax.types import Array, PyTree

# What a rank of None stands for.
RANK = 128


def check(
  method: str,
  b1: float | Array,
  b2: float | Array,
  eps: float | Array,
  *,
  rank: int | None,
  update_proj_gap: int | Array,
  scale: float | Array,
) -> int:
  """Checks the options, raises as `validate` does, and returns the rank."""
  validate.betas(method, b1=b1, b2=b2)
  validate.scalars(method, eps=eps, scale=scale)
  validate.traced_count(method, "update_proj_gap", update_proj_gap)
  return validate.count(method, "rank", rank, default=RANK)


def zeros(
  params: PyTree,
  entries: Mapping[int, dims_lib.MatrixDims],
  *,
  rank: int,
  mu_dtype: DTypeLike | None,
  nu_dtype: DTypeLike | None,
) -> tuple[PyTree, PyTree, PyTree]:
  """The first mu, nu (n, inputs, outputs; one reduced) and basis (n, r, k)."""
  flat = jax.tree.leaves(params)

  def tree(shape_of, spec_of, dtype_of):
    rows = [(flat[n], entry) for n, entry in entries.items()]
    values = [
      meshes.zeros(
        w, shape_of(w.shape, entry, rank), dtype_of(w), spec_of(w, entry)
      )
      for w, entry in rows
    ]
    return projection.tree_of(values, params, entries)

  def first(w):
    return mu_dtype or w.dtype

  def second(w):
    return compose.dtype_of_squares(w, nu_dtype)

  projected = projection.projected_shape, projection.projected_spec
  return (
    tree(*projected, first),
    tree(*projected, second),
    tree(projection.basis_shape, projection.basis_spec, first),
  )


def _align(new_nrk: Array, old_nrk: Array) -> Array:
  inner = jnp.sum(new_nrk * old_nrk, axis=2, keepdims=True)
  return jnp.where(inner < 0, -new_nrk, new_nrk)


def refresh(
  gradients: Sequence[Array],
  basis: Sequence[Array],
  count: ArrayLike,
  *,
  rank: int,
  update_proj_gap: int | Array,
) -> list[Array]:
  """The gradients' leading singular vectors at updates 1, 1 + gap, ….

  The moments stay in the coordinates of the old basis, so that the vectors'
  signs, which an SVD leaves open, do matter: they are chosen to make no angle
  with the old vector of that number obtuse.
  """

  def vectors(gradients, basis):
    new = projection.stacked_singular_vectors(gradients, rank)
    return [
      _align(x, safe.promote(b)).astype(b.dtype)
      for x, b in zip(new, basis, strict=True)
    ]

  return lax.cond(
    (jnp.asarray(count) - 1) % update_proj_gap == 0,
    vectors,
    lambda _, basis: basis,
    list(gradients),
    list(basis),
  )


def adam(
  low: Array,
  m: Array,
  v: Array,
  *,
  b1: float | Array,
  b2: float | Array,
  eps: float | Array,
) -> tuple[Array, Array, Array]:
  """The ratio m / (sqrt(v) + eps) of the projected gradient; also m and v."""
  m, v = transformers_adam.moments(
    low, safe.promote(m), safe.promote(v), b1=b1, b2=b2
  )
  return transformers_adam.ratio(m, v, eps), m, v
