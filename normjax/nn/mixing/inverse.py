"""The inverse of a kernel matrix by Newton's iteration, for SOFT."""

import functools

import jax
import jax.numpy as jnp

from normjax.nn.mixing import base
from normjax.types import Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def newton_inverse(p: Array, num_iterations: int) -> Array:
  """The inverse of symmetric, positive definite, non-negative matrices.

      A <- 2 A - A P A,  A_0 = (1.8 / max(row sum)^2) P

  As in arXiv:2110.11945, with the start of the official code. The
  largest eigenvalue is at most the largest row sum, so I - A_0 P has its
  eigenvalues in (-0.8, 1) and their squares fall to 0. An eigenvalue of P
  below about 2^(-num_iterations / 2) of the row sum is not reached: the
  result is then smaller than the inverse in that direction.

  The backward is that of the exact inverse, whatever the iteration reached:
  dL/dP = -A^T (dL/dA) A^T. Computed in the dtype of p, in full precision.

  Args:
    p: (..., m, m).
    num_iterations: 20 in the paper.
  """
  return _forward(p, num_iterations)[0]


def _forward(p: Array, num_iterations: int) -> tuple[Array, Array]:
  row_sum = jnp.max(jnp.sum(p, axis=-1), axis=-1)[..., None, None]
  inverse = jax.lax.fori_loop(
    0,
    num_iterations,
    lambda _, a: 2 * a - _product(_product(a, p), a),
    1.8 / jnp.square(row_sum) * p,
  )
  return inverse, inverse


def _product(x: Array, y: Array) -> Array:
  return base.einsum("...ij,...jk->...ik", x, y)


def _backward(num_iterations: int, inverse: Array, cotangent: Array):
  del num_iterations
  transposed = inverse.swapaxes(-1, -2)
  return (-_product(_product(transposed, cotangent), transposed),)


newton_inverse.defvjp(_forward, _backward)
