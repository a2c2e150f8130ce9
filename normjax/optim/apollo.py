"""APOLLO: Zhu et al. 2024, arXiv:2412.05270."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from normjax import validate
from normjax.optim import dims as dims_lib
from normjax.optim import (
  draws,
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

__all__ = ["apollo", "scale_by_apollo"]

_SCALE_TYPES = ("channel", "tensor")


class ApolloState(NamedTuple):
  """State of `scale_by_apollo`; the projection is drawn anew at every use."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  mu: PyTree  # (n, inputs, outputs), the smaller reduced to r, in mu_dtype.
  nu: PyTree  # The same of g^2, in nu_dtype.
  norm: PyTree  # (n,), of the last scaled gradient; 0 before. In mu_dtype.


@validate.options
@meshes.on_any_mesh
def scale_by_apollo(
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-6,
  *,
  rank: int | None = None,
  update_proj_gap: int | Array = 200,
  scale: float | Array = 1.0,
  scale_type: str = "channel",
  scale_front: bool = False,
  limit_growth: bool = True,
  seed: int | Array = 0,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """APOLLO's direction of every matrix; other leaves pass unchanged.

  Arguments as in `apollo`.
  """
  method = "scale_by_apollo"
  rank = low_rank.check(
    method,
    b1,
    b2,
    eps,
    rank=rank,
    update_proj_gap=update_proj_gap,
    scale=scale,
  )
  validate.choice(method, "scale_type", scale_type, _SCALE_TYPES)
  validate.seed(method, seed)

  def init(params):
    groups.check_leaves(method, params)
    entries = projection.chosen(dims, params)
    mu, nu, _ = low_rank.zeros(
      params, entries, rank=rank, mu_dtype=mu_dtype, nu_dtype=nu_dtype
    )
    norm = jax.tree.map(lambda m: meshes.zeros(m, m.shape[:1]), mu)
    return ApolloState(jnp.zeros((), jnp.int32), mu, nu, norm)

  def update_matrix(g, m, v, previous, path, *, count):
    side = min(g.shape[1:])
    shape = len(g), min(rank, side), side
    period = (count - 1) // update_proj_gap
    drawn = draws.normal(path, shape, period, seed=seed).astype(g.dtype)
    low = projection.project(g, drawn / math.sqrt(shape[1]))
    adam, m, v = low_rank.adam(low, m, v, b1=b1, b2=b2, eps=eps)
    axes = (projection.reduced_axis(low),)
    if scale_type == "tensor":
      axes = (1, 2)
    factor = safe.norm(adam, axes) / (safe.norm(low, axes) + limiter.NORM_EPS)
    front, back = (jnp.sqrt(scale), 1) if scale_front else (1, jnp.sqrt(scale))
    step, norm = g * factor * front, safe.promote(previous)
    if limit_growth:
      step, norm = limiter.limit_growth(step, norm)
    factor = transformers_adam.correction(count, adam.dtype, b1=b1, b2=b2)
    return factor * back * step, m, v, norm

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    count = optax.safe_increment(state.count)
    entries = projection.chosen(dims, updates)
    named = groups.leaves(updates)
    paths = [named[n][0] for n in entries]

    def step(*columns):
      rows = [
        update_matrix(*row, count=count)
        for row in zip(*columns, paths, strict=True)
      ]
      return zip(*rows, strict=True)

    updates, fields = projection.step_matrices(
      step, updates, (state.mu, state.nu, state.norm), entries
    )
    return updates, ApolloState(count, *fields)

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def apollo(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-6,
  *,
  rank: int | None = None,
  update_proj_gap: int | Array = 200,
  scale: float | Array = 1.0,
  scale_type: str = "channel",
  scale_front: bool = False,
  limit_growth: bool = True,
  seed: int | Array = 0,
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
  """Gradient descent, each channel's rate from an Adam on a random sketch.

      P = normal entries of variance 1 / r, r rows              every gap
      R = P g;  m = b1 m + (1 - b1) R;  v = b2 v + (1 - b2) R^2
      a = m / (sqrt(v) + eps)
      S_j = g_j ||a_j|| / (||R_j|| + 1e-8)     each channel j, or one factor
      S = S / max(||S|| / (||last S|| + 1e-8), 1.01) 1.01
      w -= lr sqrt(scale) sqrt(1 - b2^t) / (1 - b1^t) S;  w -= lr wd w

  arXiv:2412.05270, algorithm 1, in the order of the official code, whose
  `proj_type` is "std" and `proj` "random": the smaller side is projected, the
  inputs of a square kernel, and a channel is an index of the larger. P is
  drawn from the seed, the leaf's path and the number of the period whenever
  it is used, so that the state does not hold it. Its values are not those of
  the official code, whose generator is PyTorch's. Unlike there, the rank is
  at most the smaller side, and a norm of 0, as of a first gradient of zero,
  does not hold back the next. The other leaves take the same Adam at the
  same learning rate, without `scale`.

  Statistics are in float32. A zero gradient moves nothing; entries of R beyond
  9e18, whose squares overflow, are cut there in m and v; a NaN spoils its
  matrix.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added to sqrt(v), before the bias correction, >= 0.
    rank: r; None stands for 128. The official code runs a quarter of the
      width for LLaMA of 60M to 350M, and 256 above.
    update_proj_gap: steps from one P to the next, may be traced.
    scale: its root multiplies the matrices' step, >= 0.
    scale_type: "channel" or "tensor", one factor for the whole matrix.
    scale_front: whether sqrt(scale) comes before the limiter.
    limit_growth: whether the norm of S grows by 1 % a step at most.
    seed: of the projections, >= 0, may be traced.
    weight_decay: rate of the decay, >= 0, times the learning rate; it acts on
      the weight that the step has moved.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.
    mu_dtype: of the stored first moment and norm; None takes the parameter's.
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
    >>> tx = optim.apollo(0.1, rank=1)
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(f"{objective(params):.2f}")
    7.37
    6.85
    6.39
  """
  direction = functools.partial(
    scale_by_apollo,
    b1,
    b2,
    eps,
    rank=rank,
    update_proj_gap=update_proj_gap,
    scale=scale,
    scale_type=scale_type,
    scale_front=scale_front,
    limit_growth=limit_growth,
    seed=seed,
    mu_dtype=mu_dtype,
    nu_dtype=nu_dtype,
  )
  return transformers_adam.optimizer(
    "apollo",
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
