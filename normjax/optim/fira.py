"""Fira: Chen et al. 2024, arXiv:2410.01623."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from normjax import validate
from normjax.optim import dims as dims_lib
from normjax.optim import (
  groups,
  limiter,
  low_rank,
  meshes,
  projection,
  routed,
  safe,
  transformers_adam,
)
from normjax.types import Array, PyTree

__all__ = ["fira", "scale_by_fira"]

_RESIDUALS = ("official", "orthogonal")


class FiraState(NamedTuple):
  """State of `scale_by_fira`."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  mu: PyTree  # (n, inputs, outputs), the smaller reduced to r, in mu_dtype.
  nu: PyTree  # The same of g^2, in nu_dtype.
  basis: PyTree  # (n, r, k) with k the smaller side, in mu_dtype.
  norm: PyTree  # (n,), of the last residual's step; 0 before one. In mu_dtype.


@validate.options
@meshes.on_any_mesh
def scale_by_fira(
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-6,
  *,
  rank: int | None = None,
  update_proj_gap: int | Array = 200,
  scale: float | Array = 0.25,
  residual: str = "official",
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """Fira's direction of every matrix; other leaves pass unchanged.

  Arguments as in `fira`.
  """
  method = "scale_by_fira"
  rank = low_rank.check(
    method,
    b1,
    b2,
    eps,
    rank=rank,
    update_proj_gap=update_proj_gap,
    scale=scale,
  )
  validate.choice(method, "residual", residual, _RESIDUALS)

  def init(params):
    groups.check_leaves(method, params)
    entries = projection.chosen(dims, params)
    mu, nu, basis = low_rank.zeros(
      params, entries, rank=rank, mu_dtype=mu_dtype, nu_dtype=nu_dtype
    )
    norm = jax.tree.map(lambda m: meshes.zeros(m, m.shape[:1]), mu)
    return FiraState(jnp.zeros((), jnp.int32), mu, nu, basis, norm)

  def update_matrix(g, m, v, basis, previous, count):
    basis = safe.promote(basis)
    low = projection.project(g, basis)
    adam, m, v = low_rank.adam(low, m, v, b1=b1, b2=b2, eps=eps)
    within = projection.project_back(low, basis)
    outside = g - (scale * within if residual == "official" else within)
    axes = (projection.reduced_axis(low),)
    factor = safe.norm(adam, axes) / (safe.norm(low, axes) + limiter.NORM_EPS)
    outside, norm = limiter.limit_growth(
      outside * factor, safe.promote(previous)
    )
    step = scale * projection.project_back(adam, basis) + outside
    factor = transformers_adam.correction(count, adam.dtype, b1=b1, b2=b2)
    return factor * step, m, v, norm

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    count = optax.safe_increment(state.count)

    def step(gradients, mu, nu, basis, norm):
      basis = low_rank.refresh(
        gradients, basis, count, rank=rank, update_proj_gap=update_proj_gap
      )
      rows = [
        update_matrix(*row, count)
        for row in zip(gradients, mu, nu, basis, norm, strict=True)
      ]
      moved, mu, nu, norm = zip(*rows, strict=True)
      return moved, mu, nu, basis, norm

    updates, fields = projection.step_matrices(
      step,
      updates,
      (state.mu, state.nu, state.basis, state.norm),
      projection.chosen(dims, updates),
    )
    return updates, FiraState(count, *fields)

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def fira(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-6,
  *,
  rank: int | None = None,
  update_proj_gap: int | Array = 200,
  scale: float | Array = 0.25,
  residual: str = "official",
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
  """GaLore, and what it leaves out at the size that Adam gives the rest.

      P = r leading singular vectors of g on its smaller side   every gap
      R = P g;  m = b1 m + (1 - b1) R;  v = b2 v + (1 - b2) R^2
      a = m / (sqrt(v) + eps)
      S_j = (g - scale P^T R)_j ||a_j|| / (||R_j|| + 1e-8)      each column j
      S = S / max(||S|| / (||last S|| + 1e-8), 1.01) 1.01
      w -= lr sqrt(1 - b2^t) / (1 - b1^t) (scale P^T a + S);  w -= lr wd w

  arXiv:2410.01623 in the order of the official code, whose `proj_type` is
  "std": the smaller side is projected, the inputs of a square kernel, and a
  column is an index of the larger. That code subtracts `scale` times the
  projection, so that a part of it stays in S; residual="orthogonal" subtracts
  all of it. The norm of S grows by 1 % a step at most. Unlike there, a norm
  of 0, as of a first gradient of zero, does not hold back the next: it takes
  1900 steps to grow from 1e-8 to 1. The signs of P's vectors and the other
  leaves are as in `galore`.

  Statistics are in float32. A zero gradient moves nothing; entries of R beyond
  9e18, whose squares overflow, are cut there in m and v; a NaN spoils its
  matrix.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added to sqrt(v), before the bias correction, >= 0.
    rank: r, at most the smaller side; None stands for 128.
    update_proj_gap: steps from one P to the next, which costs an SVD of every
      matrix; those of one shape share a call. May be traced.
    scale: the paper's alpha, of the step within the span, >= 0.
    residual: "official" or "orthogonal".
    weight_decay: rate of the decay, >= 0, times the learning rate; it acts on
      the weight that the step has moved.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.
    mu_dtype: of the stored first moment, P and norm; None takes the
      parameter's.
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
    >>> tx = optim.fira(0.1, rank=1)
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(f"{objective(params):.2f}")
    6.80
    5.84
    5.02
  """
  direction = functools.partial(
    scale_by_fira,
    b1,
    b2,
    eps,
    rank=rank,
    update_proj_gap=update_proj_gap,
    scale=scale,
    residual=residual,
    mu_dtype=mu_dtype,
    nu_dtype=nu_dtype,
  )
  return transformers_adam.optimizer(
    "fira",
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
