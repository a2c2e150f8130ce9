"""Conda: Wang et al. 2025, arXiv:2509.24218."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from normjax import validate
from normjax.optim import (
  compose,
  groups,
  meshes,
  products,
  projection,
  routed,
  safe,
  stacking,
  transformers_adam,
)
from normjax.optim import dims as dims_lib
from normjax.types import Array, PyTree

__all__ = ["conda", "scale_by_conda"]


class CondaState(NamedTuple):
  """State of `scale_by_conda`."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  # The first moment in the coordinates of the basis. The official state holds
  # it in the parameter's, and projects it at every step: one product more.
  mu: PyTree  # The shapes of the parameters, in mu_dtype.
  nu: PyTree  # The same of g^2, in nu_dtype.
  basis: PyTree  # (n, k, k) with k the smaller side, in mu_dtype.


@validate.options
@meshes.on_any_mesh
def scale_by_conda(
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  update_proj_gap: int | Array = 2000,
  scale: float | Array = 1.0,
  rerotate_second_moment: bool = False,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """Conda's direction of every matrix; other leaves pass unchanged.

  Arguments as in `conda`.
  """
  method = "scale_by_conda"
  validate.betas(method, b1=b1, b2=b2)
  validate.scalars(method, eps=eps, scale=scale)
  validate.traced_count(method, "update_proj_gap", update_proj_gap)

  def init(params):
    groups.check_leaves(method, params)
    entries = projection.chosen(dims, params)
    flat = jax.tree.leaves(params)

    def tree(make):
      values = [make(flat[n], entry) for n, entry in entries.items()]
      return projection.tree_of(values, params, entries)

    return CondaState(
      count=jnp.zeros((), jnp.int32),
      mu=tree(lambda w, _: meshes.zeros(w, dtype=mu_dtype)),
      nu=tree(lambda w, _: compose.second_moments(w, nu_dtype)),
      basis=tree(
        lambda w, entry: meshes.zeros(
          w,
          projection.basis_shape(w.shape, entry),
          mu_dtype,
          projection.basis_spec(w, entry),
        )
      ),
    )

  def refresh(gradients, mu, nu, basis):
    """The basis of the momentum that this step makes; mu and nu in it."""
    wide = [safe.promote(b) for b in basis]
    momenta = stacking.one_by_one(projection.project_back, mu, wide)
    vectors = projection.stacked_singular_vectors(
      [b1 * m + (1 - b1) * g for m, g in zip(momenta, gradients, strict=True)]
    )
    new = [x.astype(b.dtype) for x, b in zip(vectors, basis, strict=True)]
    new_wide = [safe.promote(b) for b in new]
    mu = stacking.one_by_one(projection.project, momenta, new_wide)
    if rerotate_second_moment:
      # The variances of C g, were the entries of g uncorrelated.

      def carry(v, old, b):
        return projection.project(v, products.matmul(b, old.mT) ** 2)

      nu = stacking.one_by_one(carry, nu, wide, new_wide)
    return mu, nu, new

  def direction(gradients, mu, nu, basis, count):
    """Of matrices (n, inputs, outputs); also the new mu, nu and basis."""
    mu, nu, basis = lax.cond(
      (count - 1) % update_proj_gap == 0,
      refresh,
      lambda _, mu, nu, basis: (mu, nu, basis),
      gradients,
      mu,
      nu,
      basis,
    )

    def step(g, m, v, b):
      wide = safe.promote(b)
      m, v = transformers_adam.moments(
        projection.project(g, wide), m, v, b1=b1, b2=b2
      )
      adam = transformers_adam.ratio(m, v, eps)
      factor = transformers_adam.correction(count, adam.dtype, b1=b1, b2=b2)
      return projection.project_back(scale * factor * adam, wide), m, v

    rows = stacking.one_by_one(step, gradients, mu, nu, basis)
    moved, mu, nu = map(list, zip(*rows, strict=True))
    return moved, mu, nu, basis

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    count = optax.safe_increment(state.count)
    entries = projection.chosen(dims, updates)
    if not entries:
      return updates, state._replace(count=count)
    flat = jax.tree.leaves(updates)
    gradients = [flat[n] for n in entries]
    likes = gradients, jax.tree.leaves(state.mu), jax.tree.leaves(state.nu)
    g, m, v = (projection.to_matrices(leaves, entries) for leaves in likes)
    m, v, basis = (
      projection.alongside(x, g) for x in (m, v, jax.tree.leaves(state.basis))
    )
    moved, mu, nu, basis = direction(g, m, v, basis, count)
    moved, mu, nu = (
      projection.from_matrices(matrices, like, entries)
      for matrices, like in zip((moved, mu, nu), likes, strict=True)
    )
    mu, nu, basis = (
      projection.tree_of(leaves, updates, entries) for leaves in (mu, nu, basis)
    )
    new = CondaState(count=count, mu=mu, nu=nu, basis=basis)
    return projection.replace(updates, moved, entries), new

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def conda(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  update_proj_gap: int | Array = 2000,
  scale: float | Array = 1.0,
  rerotate_second_moment: bool = False,
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
  fallback: optax.GradientTransformation | None = None,
  fallback_learning_rate: optax.ScalarOrSchedule | None = None,
  fallback_b1: float | Array | None = None,
  fallback_b2: float | Array | None = None,
  fallback_eps: float | Array | None = None,
  fallback_weight_decay: float | Array | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Adam in the basis of the momentum's singular vectors, by default fixed.

      m = b1 m + (1 - b1) g
      B = singular vectors of m on its smaller side   every update_proj_gap
      v = b2 v + (1 - b2) (B g)^2
      d = B^T (B m / (sqrt(v) + eps)) sqrt(1 - b2^t) / (1 - b1^t)
      w -= lr scale d;  w -= lr wd w

  arXiv:2509.24218 in the order of the official code, whose `proj_type` is
  "std": the smaller side is rotated, the inputs of a square kernel; where the
  outputs are fewer, g B^T. B is a full basis: nothing is lost.
  The first basis is that of the first gradient. A basis vector's sign does
  not change the step, and their order only what v means after a refresh. As
  in that code, the other leaves take Adam at the same learning rate, without
  `scale`; a convolution is one matrix, (kh kw in, out), which it leaves out.

  Statistics are in float32. A zero gradient moves nothing; entries of B g
  beyond 9e18, whose squares overflow, are cut there; a NaN spoils its matrix,
  and the basis until the moments are reset.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added to sqrt(v), before the bias correction, >= 0.
    update_proj_gap: steps from one basis to the next, which costs an SVD of
      every matrix; those of one shape share a call. May be traced.
    scale: of the matrices' step, not of their decay, >= 0.
    rerotate_second_moment: whether v is carried to a new basis. Not in the
      paper: with C the change of basis, v becomes (C * C) v, the variance
      of C g for uncorrelated entries.
    weight_decay: rate of the decay, >= 0, times the learning rate; it acts on
      the weight that the step has moved.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.
    mu_dtype: of the stored first moment and basis; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.
    dims: the matrices: a tree of `MatrixDims` and None, or a function from
      params to one; None for `default_dims`.
    fallback: moves the leaves without dims; None for Adam, as follows.
    fallback_learning_rate: of Adam; None takes `learning_rate`.
    fallback_b1: of Adam; None takes `b1`.
    fallback_b2: of Adam; None takes `b2`.
    fallback_eps: of Adam; None takes `eps`.
    fallback_weight_decay: of Adam; None takes `weight_decay`.

  Raises:
    UserError: a concrete number out of range, a mask or dims of another
      structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> def objective(params):
    ...   return jnp.sum(params["kernel"] ** 2) + jnp.sum(params["bias"] ** 2)
    >>> tx = optim.conda(0.1)
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(f"{objective(params):.2f}")
    6.80
    5.71
    4.72
  """
  direction = functools.partial(
    scale_by_conda,
    b1,
    b2,
    eps,
    update_proj_gap=update_proj_gap,
    scale=scale,
    rerotate_second_moment=rerotate_second_moment,
    mu_dtype=mu_dtype,
    nu_dtype=nu_dtype,
  )
  return transformers_adam.optimizer(
    "conda",
    direction,
    learning_rate,
    b1,
    b2,
    eps,
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
