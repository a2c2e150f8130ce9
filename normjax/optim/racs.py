"""RACS: Gong, Scetbon, Ma, Meeds 2025, arXiv:2502.07752."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import (
  compose,
  groups,
  limiter,
  meshes,
  projection,
  routed,
  safe,
  stacking,
)
from normjax.optim import dims as dims_lib
from normjax.types import Array, PyTree

__all__ = ["racs", "scale_by_racs"]


class RacsState(NamedTuple):
  """State of `scale_by_racs`, in nu_dtype."""

  s: PyTree  # (n, inputs), the scale of g^2 along the inputs.
  q: PyTree  # (n, outputs), that along the output units, about 1.
  norm: PyTree  # (n,), of the last scaled gradient; 0 before.


def two_sided_scales(
  g_nij: Array, num_iters: int | Array = 5
) -> tuple[Array, Array]:
  """Vectors whose outer product comes near g^2.

      s = (g^2) q / ||q||^2;  q = (g^2)^T s / ||s||^2     num_iters times

  from q = 1: arXiv:2502.07752, equation 16 with one sample, a power iteration
  on g^2. The size of g^2 goes to s. In units of the largest |g|, so that only
  the result can overflow.

  Args:
    g_nij: matrices (inputs, outputs), float32 or float64.
    num_iters: rounds, each of both sides, may be traced.

  Returns:
    s (n, inputs) and q (n, outputs), in the dtype of g.
  """
  root, q = _scales(g_nij, safe.largest(g_nij, (1, 2)), num_iters)
  return root**2, q


def _scales(
  g_nij: Array, peak: Array, num_iters: int | Array
) -> tuple[Array, Array]:
  """The root of s, and q, for a |g| of at most `peak`, (n, 1, 1)."""
  square = safe.divide(g_nij, peak) ** 2

  def step(_, scales):
    _, q = scales
    s = safe.divide(
      jnp.sum(square * q[:, None], axis=2), jnp.sum(q * q, axis=1)[:, None]
    )
    q = safe.divide(
      jnp.sum(square * s[:, :, None], axis=1),
      jnp.sum(s * s, axis=1)[:, None],
    )
    return s, q

  start = jnp.zeros_like(square[:, :, 0]), jnp.ones_like(square[:, 0])
  s, q = lax.fori_loop(0, num_iters, step, start)
  # Not peak^2 s, which is NaN for an infinite square and a zero s.
  return peak[:, :, 0] * jnp.sqrt(s), q


@validate.options
@meshes.on_any_mesh
def scale_by_racs(
  beta: float | Array = 0.9,
  *,
  gamma: float | Array = 1.01,
  num_iters: int | Array = 5,
  nu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """RACS's direction of every matrix; other leaves pass unchanged.

  Arguments as in `racs`.
  """
  method = "scale_by_racs"
  validate.betas(method, beta=beta)
  validate.scalars(method, gamma=gamma)
  validate.traced_count(method, "num_iters", num_iters)

  def init(params):
    groups.check_leaves(method, params)
    entries = projection.chosen(dims, params)
    flat = jax.tree.leaves(params)

    def tree(*axes):
      rows = [(flat[n], entry) for n, entry in entries.items()]
      values = [
        meshes.zeros(
          w,
          [projection.matrix_shape(w.shape, entry)[axis] for axis in axes],
          compose.dtype_of_squares(w, nu_dtype),
          [meshes.matrix_spec(w, entry)[axis] for axis in axes],
        )
        for w, entry in rows
      ]
      return projection.tree_of(values, params, entries)

    return RacsState(s=tree(0, 1), q=tree(0, 2), norm=tree(0))

  def update_matrices(g, s, q, previous):
    peak = safe.largest(g, (1, 2))
    root, new_q = _scales(g, peak, num_iters)
    # As if g had been scaled down to what can be squared; s <= peak^2.
    limit = safe.square_limit(g.dtype)
    shrink = (limit / jnp.maximum(peak, limit))[:, :, 0]
    s = beta * safe.promote(s) + (1 - beta) * (shrink * root) ** 2
    q = beta * safe.promote(q) + (1 - beta) * new_q
    scaled = g * (shrink * safe.rsqrt(s))[:, :, None] * safe.rsqrt(q)[:, None]
    scaled, norm = limiter.limit_growth(scaled, safe.promote(previous), gamma)
    return scaled, s, q, norm

  def update(updates, state, params=None, **extra_args):
    del params, extra_args

    def step(*columns):
      return zip(*stacking.stacked(update_matrices, *columns), strict=True)

    updates, fields = projection.step_matrices(
      step, updates, state, projection.chosen(dims, updates)
    )
    return updates, RacsState(*fields)

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def racs(
  learning_rate: optax.ScalarOrSchedule,
  beta: float | Array = 0.9,
  *,
  matrix_scale: float | Array = 0.05,
  gamma: float | Array = 1.01,
  num_iters: int | Array = 5,
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
  dims: dims_lib.DimsSpec = None,
  fallback: optax.GradientTransformation | None = None,
  fallback_learning_rate: optax.ScalarOrSchedule | None = None,
  fallback_b1: float | Array = 0.9,
  fallback_b2: float | Array = 0.999,
  fallback_eps: float | Array = 1e-8,
  fallback_weight_decay: float | Array | None = None,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Gradient descent, each matrix scaled along inputs and output units.

      S, Q = two_sided_scales(g), whose outer product comes near g^2
      s = beta s + (1 - beta) S;  q = beta q + (1 - beta) Q
      u = g / (sqrt(s) sqrt(q));  u = u / max(||u|| / ||last u||, gamma) gamma
      w -= lr (matrix_scale u + wd w)

  arXiv:2502.07752, algorithm 1, with PyTorch's rows as its rows: q is of the
  output units and begins as 1. The averages are not corrected for bias, so
  that the first step is 1 / (1 - beta) times a later one. Some public
  re-implementations take the mean squares of rows and columns for Q and S.
  The paper has no eps: what never had a gradient does not move, and the
  limiter's 1e-8 beside ||last u|| is that of Fira's code. Unlike there, a
  norm of 0, as of a first gradient of zero, does not hold back the next.

  Statistics are in float32; matrices of one shape are scaled together. A zero
  gradient moves nothing, nor does a matrix whose squares vanish in float32;
  one with entries beyond 9e18, whose squares overflow, is scaled down to that;
  a NaN spoils its matrix.

  Args:
    learning_rate: the global rate: number, traced scalar or schedule.
    beta: decay of s and q, in [0, 1).
    matrix_scale: the paper's alpha: the matrices' rate beside the global one.
    gamma: the largest growth of ||u|| in a step, > 0.
    num_iters: rounds of `two_sided_scales`, may be traced.
    weight_decay: rate of the decay, >= 0, times the global rate.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.
    dims: the matrices: a tree of `MatrixDims` and None, or a function from
      params to one; None for `default_dims`.
    fallback: moves the leaves without dims; None for AdamW, as follows.
    fallback_learning_rate: of AdamW; None takes the global rate.
    fallback_b1: of AdamW, in [0, 1).
    fallback_b2: of AdamW, in [0, 1).
    fallback_eps: of AdamW.
    fallback_weight_decay: of AdamW; None takes `weight_decay`.
    mu_dtype: of AdamW's first moment; None takes the parameter's.
    nu_dtype: of s, q, the norm and AdamW's second moment; None takes float32
      at least.

  Raises:
    UserError: a concrete number out of range, a mask or dims of another
      structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> def objective(params):
    ...   return jnp.sum(params["kernel"] ** 2) + jnp.sum(params["bias"] ** 2)
    >>> tx = optim.racs(0.1)
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(f"{objective(params):.2f}")
    7.04
    6.41
    5.91
  """
  validate.scalars("racs", matrix_scale=matrix_scale)

  def direction(dims):
    return optax.chain(
      scale_by_racs(
        beta, gamma=gamma, num_iters=num_iters, nu_dtype=nu_dtype, dims=dims
      ),
      optax.scale(matrix_scale),
    )

  return routed.optimizer(
    "racs",
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
