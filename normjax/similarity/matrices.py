"""Similarity matrices from embeddings, and checks of matrices."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from normjax import errors, validate
from normjax.norms import moments
from normjax.types import Array

__all__ = ["cosine", "hamming", "unit", "unit_columns"]


def unit(x: Array) -> Array:
  """Vectors of length 1 over the last axis; a zero vector stays zero.

  Computed, and given back, in float32 (float64 for float64).
  """
  x = moments.promote(jnp.asarray(x))
  return x * moments.reciprocal_length(x)


def unit_columns(kernel_ec: Array) -> Array:
  """As `unit`, of the columns of a kernel (features, classes)."""
  return unit(kernel_ec.T).T


def cosine(queries_qd: Array, gallery_gd: Array) -> Array:
  """The cosines of all pairs, (q, g).

  Args:
    queries_qd: embeddings.
    gallery_gd: embeddings.

  Raises:
    UserError: other axes, or embeddings of another dimension.
  """
  q_qd, g_gd = check_pair(queries_qd, gallery_gd)
  return product(unit(q_qd), unit(g_gd).T)


def hamming(queries_qd: Array, gallery_gd: Array) -> Array:
  """Minus the number of signs that differ, (q, g), float32.

  The binary embeddings of Zhai and Wu (arXiv:1811.12649): 1 where a coordinate
  is above 0, else 0.

  Args:
    queries_qd: embeddings; only what is above 0 matters.
    gallery_gd: the same.

  Raises:
    UserError: other axes, or embeddings of another dimension.
  """
  q_qd, g_gd = check_pair(queries_qd, gallery_gd)
  signs = [jnp.where(x > 0, 1.0, -1.0) for x in (q_qd, g_gd)]
  # Sums of ones: exact in float32 up to 2**24 dimensions.
  return (product(signs[0], signs[1].T) - q_qd.shape[1]) / 2


def product(a: Array, b: Array) -> Array:
  """The product of two matrices: no TensorFloat-32, no bfloat16 passes.

  On a mesh with explicit axes its rows are cut as those of a.
  """
  a, b = uncut(a, 1), uncut(b, 0)
  if uncut(a, 0) is not a:  # An axis of the mesh cuts one of an array's.
    b = uncut(b, 1)
  return jnp.matmul(a, b, precision="highest")


def uncut(x: Array, axis: int) -> Array:
  """The array with an axis that no device has a part of alone.

  With automatic axes, or none, the compiler sees to it: x as it is.
  """
  sharding = jax.typeof(x).sharding
  if not sharding.mesh.explicit_axes or sharding.spec[axis] is None:
    return x
  spec = list(sharding.spec)
  spec[axis] = None
  laid = NamedSharding(sharding.mesh, PartitionSpec(*spec))
  return jax.sharding.reshard(x, laid)


def check_pair(queries_qd: Any, gallery_gd: Any) -> tuple[Array, Array]:
  """Both as arrays of floats, (q, d) and (g, d).

  Raises:
    UserError: other axes, or another d.
  """
  q_qd = check_matrix("queries", queries_qd)
  g_gd = check_matrix("gallery", gallery_gd)
  if q_qd.shape[1] != g_gd.shape[1]:
    raise errors.UserError(
      f"queries of shape {q_qd.shape} and a gallery of shape {g_gd.shape}: the"
      " last axis, the dimension of the embeddings, must be the same."
    )
  return q_qd, g_gd


def check_matrix(name: str, values: Any) -> Array:
  """The values as an array of floats with two axes, neither of them empty.

  Raises:
    UserError: another array.
  """
  values = jnp.asarray(values)
  if values.ndim != 2 or not values.size:
    raise errors.UserError(
      f"{name} of shape {values.shape}; allowed: two axes, none of size 0."
    )
  if not jnp.issubdtype(values.dtype, jnp.floating):
    raise errors.UserError(f"{name} of {values.dtype}; allowed: floats.")
  return moments.promote(values)


def check_bank(name: str, bank: Any, similarities_qg: Array) -> Array:
  """A bank's similarities to the gallery, (n, g).

  Raises:
    UserError: they are to another number of items.
  """
  bank_ng = check_matrix(name, bank)
  items = similarities_qg.shape[1]
  if bank_ng.shape[1] != items:
    raise errors.UserError(
      f"{name} of shape {bank_ng.shape}: a bank has a row per bank item and a"
      f" column per gallery item, of which the similarities have {items};"
      f" allowed: shape (n, {items})."
    )
  return bank_ng


def check_k(owner: str, k: Any, most: int, of: str) -> int:
  """k, a number of neighbours.

  Raises:
    UserError: below 1, or more than there are.
  """
  k = validate.count(owner, "k", k)
  if k > most:
    validate.refuse(owner, "k", k, f"an int from 1 to {most}, the size of {of}")
  return k


def check_positive(owner: str, name: str, value: Any) -> None:
  """Checks a number above 0, which may be a scalar array.

  Raises:
    WrongTypeError: no scalar.
    UserError: a concrete one that is not above 0, or not finite.
  """
  validate.scalar(owner, name, value)
  if not isinstance(value, Tracer) and not value > 0:
    validate.refuse(owner, name, float(value), "a finite number > 0")
