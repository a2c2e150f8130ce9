"""Projection of matrices on singular vectors of their smaller side.

What Conda, GaLore and Fira share. The smaller side of (inputs, outputs) is
the inputs where both are equal, as for PyTorch's (out, in) in their codes.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from normjax.optim import compose, meshes, products, safe, stacking
from normjax.optim import dims as dims_lib
from normjax.types import Array, PyTree


def _acts_on_inputs(x_nio: Array) -> bool:
  # The same for a matrix and its projection, whose smaller side shrinks.
  return x_nio.shape[1] <= x_nio.shape[2]


def matrix_shape(
  shape: Sequence[int], entry: dims_lib.MatrixDims
) -> tuple[int, int, int]:
  """(matrices, inputs, outputs) for a leaf of this shape."""
  reduction, output = dims_lib.axes(entry)
  batch = math.prod(
    size for n, size in enumerate(shape) if n not in reduction + output
  )
  return batch, *dims_lib.sizes(tuple(shape), entry)


def basis_shape(
  shape: Sequence[int], entry: dims_lib.MatrixDims, rank: int | None = None
) -> tuple[int, int, int]:
  """(matrices, rank, smaller side) for a leaf of this shape.

  Args:
    shape: of the leaf.
    entry: its matrix axes, as `dims.resolve` gives them.
    rank: number of vectors; None, and what exceeds the side, means all.
  """
  batch, inputs, outputs = matrix_shape(shape, entry)
  side = min(inputs, outputs)
  return batch, side if rank is None else min(rank, side), side


def _is_wide(shape: Sequence[int], entry: dims_lib.MatrixDims) -> bool:
  inputs, outputs = dims_lib.sizes(tuple(shape), entry)
  return inputs <= outputs


def projected_shape(
  shape: Sequence[int], entry: dims_lib.MatrixDims, rank: int
) -> tuple[int, int, int]:
  """(matrices, inputs, outputs), the smaller side reduced to the rank."""
  inputs, outputs = dims_lib.sizes(tuple(shape), entry)
  batch, rank, _ = basis_shape(shape, entry, rank)
  if _is_wide(shape, entry):
    return batch, rank, outputs
  return batch, inputs, rank


def projected_spec(
  w: Array, entry: dims_lib.MatrixDims
) -> tuple[Any, Any, Any]:
  """The mesh axes that cut a projection of this leaf: its longer side's."""
  batch, inputs, outputs = meshes.matrix_spec(w, entry)
  if _is_wide(w.shape, entry):
    return batch, None, outputs
  return batch, inputs, None


def basis_spec(w: Array, entry: dims_lib.MatrixDims) -> tuple[Any, Any, Any]:
  """The mesh axes that cut a basis of this leaf's smaller side."""
  batch, inputs, outputs = meshes.matrix_spec(w, entry)
  return batch, None, inputs if _is_wide(w.shape, entry) else outputs


def singular_vectors(x_nio: Array, rank: int | None = None) -> Array:
  """The singular vectors of the smaller side, largest singular value first.

  By a QR of the tall form and an SVD of its R, which spares the vectors of
  the larger side. Not by the eigenvectors of the Gram matrix: in float32 they
  lose the directions below sqrt(u) = 2e-4 of the largest, and a gradient's
  spectrum has many.

  Args:
    x_nio: matrices (inputs, outputs), float32 or float64; any finite scale.
    rank: how many vectors to keep; None for all.

  Returns:
    Orthonormal rows, (n, rank, k), in the dtype of x. Those of a zero
    matrix are unit vectors, those of a matrix with a NaN are NaN.
  """
  scaled = safe.divide(x_nio, safe.largest(x_nio, (1, 2)))
  tall = scaled.mT if _acts_on_inputs(x_nio) else scaled
  if tall.shape[1] > tall.shape[2]:
    tall = jnp.linalg.qr(tall, mode="r")
  _, _, vectors = jnp.linalg.svd(tall, full_matrices=False)
  return vectors[:, :rank]


def stacked_singular_vectors(
  matrices: Sequence[Array], rank: int | None = None
) -> list[Array]:
  """`singular_vectors` of each, one SVD for all matrices of one shape."""
  return stacking.stacked(
    lambda x: singular_vectors(x, rank), matrices, whole=True
  )


def reduced_axis(y_nio: Array) -> int:
  """The axis of a projected matrix that counts the basis vectors."""
  return 1 if _acts_on_inputs(y_nio) else 2


def project(x_nio: Array, basis_nrk: Array) -> Array:
  """The coordinates of x in the basis: B X or, on the outputs, X B^T."""
  if _acts_on_inputs(x_nio):
    return products.matmul(basis_nrk, x_nio)
  return products.matmul(x_nio, basis_nrk.mT)


def project_back(y_nio: Array, basis_nrk: Array) -> Array:
  """The matrix of these coordinates: B^T Y or, on the outputs, Y B."""
  if _acts_on_inputs(y_nio):
    return products.matmul(basis_nrk.mT, y_nio)
  return products.matmul(y_nio, basis_nrk)


def chosen(
  dims: dims_lib.DimsSpec, tree: PyTree
) -> dict[int, dims_lib.MatrixDims]:
  """The number of each leaf that has dims, and its entry."""
  entries = enumerate(dims_lib.resolve(dims, tree))
  return {n: entry for n, entry in entries if entry is not None}


def tree_of(
  values: Iterable[Any], like: PyTree, entries: Mapping[int, Any]
) -> PyTree:
  """A tree like `like`: the values where there are dims, else MaskedNode."""
  flat, structure = jax.tree.flatten(like)
  nodes = [optax.MaskedNode()] * len(flat)
  for n, value in zip(entries, values, strict=True):
    nodes[n] = value
  return structure.unflatten(nodes)


def to_matrices(
  leaves: Sequence[Array], entries: Mapping[int, dims_lib.MatrixDims]
) -> list[Array]:
  """(n, inputs, outputs) of each leaf, in the dtype of the arithmetic."""
  return [
    dims_lib.to_matrices(safe.promote(leaf), entry)
    for leaf, entry in zip(leaves, entries.values(), strict=True)
  ]


def from_matrices(
  matrices: Sequence[Array],
  like: Sequence[Array],
  entries: Mapping[int, dims_lib.MatrixDims],
) -> list[Array]:
  """The inverse of `to_matrices`: the shapes and dtypes of `like`."""
  rows = zip(matrices, like, entries.values(), strict=True)
  return [
    dims_lib.from_matrices(x, leaf.shape, entry).astype(leaf.dtype)
    for x, leaf, entry in rows
  ]


def alongside(
  leaves: Sequence[Array], gradients: Sequence[Array]
) -> list[Array]:
  """Leaves of the state that vary over the devices as their gradients do."""
  return [meshes.varying(x, g) for x, g in zip(leaves, gradients, strict=True)]


def replace(
  tree: PyTree, values: Iterable[Any], entries: Mapping[int, Any]
) -> PyTree:
  """The tree with the values where there are dims."""
  flat, structure = jax.tree.flatten(tree)
  for n, value in zip(entries, values, strict=True):
    flat[n] = value
  return structure.unflatten(flat)


def step_matrices(
  step: Callable[..., Iterable[Sequence[Array]]],
  updates: PyTree,
  fields: Sequence[PyTree],
  entries: Mapping[int, dims_lib.MatrixDims],
) -> tuple[PyTree, Sequence[PyTree]]:
  """Moves the leaves that have dims, and what is remembered of them.

  Args:
    step: from the gradients (n, inputs, outputs) and the leaves of each field,
      as lists, to the directions and the new leaves of each field.
    updates: the gradients.
    fields: of the state: trees of arrays, MaskedNode where there are no dims.
    entries: as `chosen` gives them.

  Returns:
    The updates and the fields, in the dtypes that they had.
  """
  if not entries:
    return updates, fields
  flat = jax.tree.leaves(updates)
  like = [flat[n] for n in entries]
  matrices = to_matrices(like, entries)
  moved, *values = step(
    matrices, *(alongside(jax.tree.leaves(f), matrices) for f in fields)
  )
  new = [
    compose.cast_like(tree_of(leaves, updates, entries), field)
    for leaves, field in zip(values, fields, strict=True)
  ]
  return replace(updates, from_matrices(moved, like, entries), entries), new
