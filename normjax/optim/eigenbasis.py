"""The two eigenbases of matrices: rotation, first estimate, refreshes.

Lists hold what belongs to each leaf as (n, inputs, outputs); lists of Gram
matrices and bases hold two for each, [input, output, input, …], (n, k, k), of
size 0 for a side that has none.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from normjax.optim import meshes, products, safe, stacking, whole_matrices
from normjax.types import Array


def rotate(x: Array, input_basis: Array, output_basis: Array) -> Array:
  """U^T X V; a basis of size 0 stands for the identity."""
  if input_basis.size:
    x = products.matmul(input_basis.mT, x)
  return products.matmul(x, output_basis) if output_basis.size else x


def rotate_back(x: Array, input_basis: Array, output_basis: Array) -> Array:
  """U X V^T, the inverse of `rotate`."""
  if input_basis.size:
    x = products.matmul(input_basis, x)
  return products.matmul(x, output_basis.mT) if output_basis.size else x


def outer_products(x: Array, like: Sequence[Array]) -> tuple[Array, Array]:
  """(X X^T, X^T X), but of size 0 where `like` is."""
  input_gram, output_gram = like
  return (
    products.matmul(x, x.mT) if input_gram.size else input_gram,
    products.matmul(x.mT, x) if output_gram.size else output_gram,
  )


def square_spec(w: Array, size: int) -> tuple[Any, ...]:
  """The mesh axes that cut Gram matrix and basis of a side of this leaf.

  Where whole matrices are shared out, nobody needs all of them: their rows are
  cut as the leaf is, if they come out even. Else they are whole everywhere.
  """
  axes, shard = meshes.leaf_spec(w), meshes.shard_shape(w)
  cut = [n for n, axis in enumerate(axes) if axis is not None]
  if not cut or not whole_matrices.shares():
    return ()
  devices = w.shape[cut[0]] // shard[cut[0]]
  return () if size % devices else (None, axes[cut[0]], None)


def whole(x: Array) -> Array:
  """Keeps x whole on every device, where the compiler would decide."""
  if whole_matrices.shares():
    return x
  mesh = jax.typeof(x).sharding.mesh
  if mesh.empty or any(kind != AxisType.Auto for kind in mesh.axis_types):
    return x
  replicated = NamedSharding(mesh, PartitionSpec())
  return lax.with_sharding_constraint(x, replicated)


def _unit(gram: Array) -> Array:
  return safe.divide(gram, safe.largest(gram, (1, 2)))


def _eigenbasis(gram: Array) -> Array:
  return jnp.linalg.eigh(_unit(gram))[1][..., ::-1]


def _turn(gram: Array, basis: Array) -> tuple[Array, Array]:
  """One power iteration from the basis, by falling estimated eigenvalues.

  Returns:
    The new basis, and the order in which it holds the old directions.
  """
  product = products.matmul(_unit(gram), basis)
  estimates = jnp.sum(basis * product, axis=1)
  order = jnp.argsort(estimates, axis=1, descending=True)
  product = jnp.take_along_axis(product, order[:, None, :], axis=2)
  return jnp.linalg.qr(product)[0], order


def _per_side(function: Any, *sides: list[Array]) -> list[Any]:
  """`function` of each side that has a size, one call for each size."""
  chosen = [n for n, side in enumerate(sides[0]) if side.size]
  results: list[Any] = [None] * len(sides[0])
  columns = [[side[n] for n in chosen] for side in sides]
  for n, result in zip(
    chosen, stacking.stacked(function, *columns, whole=True), strict=True
  ):
    results[n] = result
  return results


def keep(
  gradients: list[Array],
  mu: list[Array],
  nu: list[Array],
  grams: list[Array],
  bases: list[Array],
) -> tuple[list[Array], list[Array], list[Array]]:
  """Nothing changes."""
  del gradients, grams
  return mu, nu, bases


def begin(
  gradients: list[Array],
  mu: list[Array],
  nu: list[Array],
  grams: list[Array],
  bases: list[Array],
) -> tuple[list[Array], list[Array], list[Array]]:
  """The moments, zero, and the bases once the first gradient is known."""
  flat = []
  for n, g in enumerate(gradients):
    # Not of the moving average, (1 - b2) times it, which may underflow.
    scaled = safe.divide(g, safe.largest(g, (1, 2)))
    flat.extend(outer_products(scaled, grams[2 * n : 2 * n + 2]))
  made = _per_side(_eigenbasis, flat)
  zeros = [jnp.zeros_like(x) for x in mu], [jnp.zeros_like(x) for x in nu]
  return *zeros, [
    old if new is None else new for new, old in zip(made, bases, strict=True)
  ]


def refresh(
  gradients: list[Array],
  mu: list[Array],
  nu: list[Array],
  grams: list[Array],
  bases: list[Array],
) -> tuple[list[Array], list[Array], list[Array]]:
  """The bases turned, mu carried along, and nu in the order of the bases."""
  del gradients
  made = _per_side(_turn, grams, bases)
  new = [
    old if turned is None else turned[0]
    for turned, old in zip(made, bases, strict=True)
  ]
  orders = [
    jnp.zeros((len(old), 0), jnp.int32) if turned is None else turned[1]
    for turned, old in zip(made, bases, strict=True)
  ]

  def carry(m, v, old_input, old_output, new_input, new_output, *orders):
    m = rotate(rotate_back(m, old_input, old_output), new_input, new_output)
    for axis, order in zip((1, 2), orders, strict=True):
      if order.size:
        order = jnp.expand_dims(order, 3 - axis)
        v = jnp.take_along_axis(v, order, axis=axis)
    return m, v

  sides = [x[n::2] for x in (bases, new, orders) for n in (0, 1)]
  rows = stacking.one_by_one(carry, mu, nu, *sides)
  moved, sorted_nu = map(list, zip(*rows, strict=True))
  return moved, sorted_nu, new
