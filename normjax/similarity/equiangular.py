"""Equiangular basis vectors: Shen et al. 2023, arXiv:2303.11637.

Unit vectors whose cosines are all near 0, more of them than dimensions: fixed
vectors of classes. The official repository,
aassxun/Equiangular-Basis-Vectors, has no licence: equations only.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from normjax import errors, validate
from normjax.similarity import matrices
from normjax.types import Array

__all__ = [
  "equiangular_basis", "equiangular_loss", "largest_cosine", "welch_bound",
]  # fmt: skip

# That of the official files of as many dimensions as vectors.
TAU = 0.002
# How far above tau the largest cosine may be: the official code's.
SLACK = 1e-4
LEARNING_RATE = 1e-3


def welch_bound(count: int, dim: int) -> float:
  """No unit vectors have all |cosines| below this: Welch 1974.

      sqrt((n - d) / (d (n - 1))) for n > d, else 0

  Args:
    count: n, vectors.
    dim: d, their dimension.

  Raises:
    UserError: a size below 1.
  """
  validate.counts("welch_bound", count=count, dim=dim)
  if count <= dim:
    return 0.0
  return math.sqrt((count - dim) / (dim * (count - 1)))


def largest_cosine(vectors_nd: Array) -> Array:
  """The max over i != j of |<v_i, v_j>|, of unit vectors; 0 of a single one."""
  return jnp.max(_off_diagonal(vectors_nd))


def equiangular_loss(vectors_nd: Array, tau: Array | float) -> Array:
  """The sum over ordered pairs i != j of relu(|<v_i, v_j>| - tau).

  The absolute value asks for orthogonal vectors, not for a simplex, whose
  cosines are -1 / (n - 1).
  """
  return jnp.sum(jax.nn.relu(_off_diagonal(vectors_nd) - tau))


def _off_diagonal(vectors_nd: Array) -> Array:
  cosines = jnp.abs(matrices.product(vectors_nd, vectors_nd.T))
  return jnp.where(jnp.eye(len(vectors_nd), dtype=bool), 0, cosines)


def equiangular_step(
  vectors_nd: Array,
  tau: Array | float,
  learning_rate: float = LEARNING_RATE,
) -> Array:
  """One step of gradient descent from unit vectors, and back to the sphere.

  The gradient is that of the vectors as they are: the normalization is not
  differentiated, as in the official code.
  """
  gradient = jax.grad(equiangular_loss)(vectors_nd, tau)
  return matrices.unit(vectors_nd - learning_rate * gradient)


@functools.lru_cache(maxsize=8)
def equiangular_basis(
  count: int,
  dim: int,
  tau: float | None = None,
  *,
  seed: int = 0,
  max_steps: int = 100_000,
) -> np.ndarray:
  """Unit vectors with |cosines| <= tau + 1e-4.

  Normal vectors, normalized; then `equiangular_step`s with the learning rate
  1e-3 until they are there. Of no more vectors than dimensions the first ones
  are orthogonal already (a QR decomposition); the official code descends there
  too, for thousands of steps.

  What was reached in the official files, as a multiple of the Welch bound:
  1000 vectors of 100 dimensions 1.42, of 200 1.26, of 500 1.11.

  Args:
    count: n, vectors.
    dim: d, their dimension.
    tau: the largest |cosine|, below 1; None: 0.002 where count <= dim, else it
      must be given.
    seed: of the first vectors. The same seed gives the same vectors.
    max_steps: after which it is given up.

  Returns:
    (n, d), float32, read-only: the next call with these arguments gives the
    same array.

  Raises:
    UserError: tau below the Welch bound, which no vectors reach, or not reached
      within the steps.
  """
  tau = checked_tau("equiangular_basis", count, dim, tau)
  validate.count("equiangular_basis", "seed", seed, least=0)
  validate.counts("equiangular_basis", max_steps=max_steps)
  # Inside a trace, as of a model that is made there, this runs all the same.
  with jax.ensure_compile_time_eval():
    shape = (count, dim)
    vectors = np.random.default_rng(seed).standard_normal(shape)
    if count <= dim:  # The columns of Q are orthonormal.
      vectors = np.linalg.qr(vectors.T)[0].T
    start = matrices.unit(jnp.asarray(vectors, jnp.float32))
    found, steps = _descend(start, jnp.float32(tau), max_steps)
    reached = float(largest_cosine(found))
  if reached > tau + SLACK:
    raise errors.UserError(
      f"tau={tau:g} was not reached by {count} vectors of {dim} dimensions: the"
      f" largest |cosine| is {reached:.4g} after {int(steps)} steps. The Welch"
      f" bound is {welch_bound(count, dim):.4g}; allowed: a larger tau, more"
      " dimensions, another seed or more max_steps."
    )
  basis = np.array(found)
  basis.flags.writeable = False
  return basis


def checked_tau(owner: str, count: int, dim: int, tau: float | None) -> float:
  """tau, or its default.

  Raises:
    UserError: none where there is no default, one below the Welch bound, or one
      that is no bound.
  """
  validate.counts(owner, count=count, dim=dim)
  bound = welch_bound(count, dim)
  allowed = f"a number from the Welch bound, {bound:.4g}"
  said = (
    f"{allowed} of {count} vectors in {dim} dimensions, to below 1 (near the"
    " bound it may not be reached: 1.1 to 1.5 times it was)"
  )
  if tau is None:
    if count <= dim:
      return TAU
    validate.refuse(owner, "tau", tau, said)
  validate.number(owner, "tau", tau)
  if not bound <= tau < 1:
    validate.refuse(owner, "tau", tau, said)
  return tau


@functools.partial(jax.jit, static_argnames="max_steps")
def _descend(
  start_nd: Array, tau: Array, max_steps: int
) -> tuple[Array, Array]:
  """Steps until all |cosines| are at most tau + SLACK, and how many."""

  def goes_on(carry):
    vectors, step = carry
    return (largest_cosine(vectors) > tau + SLACK) & (step < max_steps)

  def body(carry):
    vectors, step = carry
    return equiangular_step(vectors, tau), step + 1

  return jax.lax.while_loop(goes_on, body, (start_nd, jnp.int32(0)))
