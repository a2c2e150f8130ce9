"""Dion: Ahn et al. 2025, arXiv:2504.05295."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import (
  compose,
  draws,
  groups,
  meshes,
  products,
  projection,
  routed,
  safe,
  stacking,
)
from normjax.optim import dims as dims_lib
from normjax.types import Array, PyTree, StaticFloat

__all__ = ["dion", "scale_by_dion"]


class DionState(NamedTuple):
  """State of `scale_by_dion`, in mu_dtype."""

  mu: PyTree  # The shapes of the matrices.
  basis: PyTree  # (n, inputs, r), its columns unit vectors but for the first.


def power_iteration(m_nio: Array, basis_nir: Array) -> tuple[Array, ...]:
  """One step towards the leading singular vectors.

      P = the orthonormal factor of M^T Q;  R = M P

  A column of R that is rounding, below 4 sqrt(inputs + outputs) epsilons of
  the largest, is 0, as is that of P: a matrix of lower rank has such.

  Args:
    m_nio: matrices (inputs, outputs), float32 or float64, of any finite scale.
    basis_nir: Q, in the same dtype.

  Returns:
    P (n, outputs, r), R (n, inputs, r) and the norms of its columns
    (n, 1, r).
  """
  scaled = safe.divide(m_nio, safe.largest(m_nio, (1, 2)))
  p, _ = jnp.linalg.qr(products.matmul(scaled.mT, basis_nir))
  r = products.matmul(m_nio, p)
  norm = safe.norm(r, (1,))
  rounding = 4 * math.sqrt(sum(m_nio.shape[1:])) * jnp.finfo(r.dtype).eps
  # A NaN is no rounding.
  empty = norm <= rounding * jnp.max(norm, axis=2, keepdims=True)
  p, r, norm = (jnp.where(empty, 0, x) for x in (p, r, norm))
  return p, r, norm


@validate.options
@meshes.on_any_mesh
def scale_by_dion(
  momentum: float | Array = 0.95,
  eps: float | Array = 1e-8,
  *,
  rank: int | None = None,
  rank_percent: StaticFloat | None = None,
  seed: int | Array = 0,
  mu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """Dion's direction of every matrix; other leaves pass unchanged.

  Arguments as in `dion`.
  """
  method = "scale_by_dion"
  validate.betas(method, momentum=momentum)
  validate.scalars(method, eps=eps)
  most = validate.count(method, "rank", rank, default=768)
  if rank_percent is not None:
    validate.share(method, "rank_percent", rank_percent, whole=100)
  validate.seed(method, seed)

  def first_basis(path, w, entry):
    batch, inputs, outputs = projection.matrix_shape(w.shape, entry)
    side = min(inputs, outputs)
    columns = min(most, side)
    if rank_percent is not None:
      columns = min(math.ceil(rank_percent * side / 100), side)
    shape = batch, inputs, columns
    spec = *meshes.matrix_spec(w, entry)[:2], None
    drawn = draws.normal(path, shape, seed=seed).astype(mu_dtype or w.dtype)
    return meshes.zeros(w, shape, mu_dtype, spec) + drawn

  def init(params):
    groups.check_leaves(method, params)
    entries = projection.chosen(dims, params)
    named = groups.leaves(params)
    leaves = [named[n][1] for n in entries]
    mu = [meshes.zeros(w, dtype=mu_dtype) for w in leaves]
    basis = [first_basis(*named[n], entry) for n, entry in entries.items()]
    return DionState(
      mu=projection.tree_of(mu, params, entries),
      basis=projection.tree_of(basis, params, entries),
    )

  def update_matrices(g, m, basis):
    m = m + g
    basis = safe.promote(basis)
    p, r, norm = power_iteration(m, basis)
    inputs, outputs = g.shape[1:]
    size = math.sqrt(outputs / inputs)
    moved = products.matmul(size * safe.divide(r, norm + eps), p.mT)
    m = m - products.matmul((1 - momentum) * r, p.mT)
    return moved, m, jnp.where(norm == 0, basis, safe.divide(r, norm))

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    entries = projection.chosen(dims, updates)
    if not entries:
      return updates, state
    flat = jax.tree.leaves(updates)
    like = [flat[n] for n in entries]
    momenta = jax.tree.leaves(state.mu)
    rows = stacking.stacked(
      update_matrices,
      projection.to_matrices(like, entries),
      projection.to_matrices(momenta, entries),
      jax.tree.leaves(state.basis),
      whole=True,
    )
    moved, mu, basis = zip(*rows, strict=True)
    mu = projection.from_matrices(mu, momenta, entries)
    tree = functools.partial(projection.tree_of, like=updates, entries=entries)
    new = DionState(
      mu=tree(mu), basis=compose.cast_like(tree(basis), state.basis)
    )
    moved = projection.from_matrices(moved, like, entries)
    return projection.replace(updates, moved, entries), new

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def dion(
  learning_rate: optax.ScalarOrSchedule,
  momentum: float | Array = 0.95,
  eps: float | Array = 1e-8,
  weight_decay: float | Array = 0.01,
  mask: Any = "default",
  *,
  rank: int | None = None,
  rank_percent: StaticFloat | None = None,
  seed: int | Array = 0,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
  fallback: optax.GradientTransformation | None = None,
  fallback_learning_rate: optax.ScalarOrSchedule | None = None,
  fallback_b1: float | Array = 0.9,
  fallback_b2: float | Array = 0.95,
  fallback_eps: float | Array = 1e-8,
  fallback_weight_decay: float | Array | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Momentum orthonormalised by one power iteration per step, at low rank.

      M = M + g;  P = the orthonormal factor of M^T Q;  R = M P
      M = M - (1 - momentum) R P^T
      Q = R / (||each column of R|| + eps)
      w -= lr (sqrt(outputs / inputs) Q P^T + wd w)

  with M (inputs, outputs): arXiv:2504.05295, in the order of the official
  `dion_simple.py`. Only what the step took leaves the momentum, so that what is
  outside the rank comes later: the feedback of the error. The first Q is
  normal, drawn from the seed and the leaf's path, and not PyTorch's. Columns of
  R that are no more than rounding, as in a gradient of lower rank, do not move
  anything and leave their column of Q; the official `dion_reference.py` does so
  for M = 0. A convolution is one matrix, (kh kw in, out). The official code
  moves the other leaves by AdamW at the same learning rate, or by Lion.

  Statistics are in float32. Matrices of one shape share a QR. A zero gradient
  moves nothing at first; gradients far below eps move little; a NaN spoils
  its matrix.

  Args:
    learning_rate: number, traced scalar or schedule.
    momentum: the paper's mu, in [0, 1).
    eps: added to the norms of R's columns.
    weight_decay: rate of the decay, >= 0, times the learning rate.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.
    rank: number of Q's columns, at most the smaller side; None stands for
      768.
    rank_percent: their share of the smaller side in percent, at most 100,
      rounded up, in place of `rank`; no array, as it decides on shapes.
    seed: of the first Q, >= 0, may be traced.
    mu_dtype: of the stored M and Q, and AdamW's first moment; None takes the
      parameter's.
    nu_dtype: of AdamW's second moment; None takes float32 at least.
    dims: the matrices: a tree of `MatrixDims` and None, or a function from
      params to one; None for `default_dims`.
    fallback: moves the leaves without dims; None for AdamW, as follows.
    fallback_learning_rate: of AdamW; None takes `learning_rate`.
    fallback_b1: of AdamW, in [0, 1).
    fallback_b2: of AdamW, in [0, 1).
    fallback_eps: of AdamW.
    fallback_weight_decay: of AdamW; None takes `weight_decay`.

  Raises:
    UserError: a concrete number out of range, a mask or dims of another
      structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> def objective(params):
    ...   return jnp.sum(params["kernel"] ** 2) + jnp.sum(params["bias"] ** 2)
    >>> tx = optim.dion(0.1)
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(f"{objective(params):.2f}")
    7.22
    6.49
    5.81
  """
  direction = functools.partial(
    scale_by_dion,
    momentum,
    eps,
    rank=rank,
    rank_percent=rank_percent,
    seed=seed,
    mu_dtype=mu_dtype,
  )
  return routed.optimizer(
    "dion",
    direction,
    learning_rate,
    weight_decay=weight_decay,
    mask=mask,
    dims=dims,
    fallback=routed.Fallback(
      fallback,
      fallback_learning_rate,
      fallback_b1,
      fallback_b2,
      fallback_eps,
      fallback_weight_decay,
      mu_dtype,
      nu_dtype,
    ),
  )
