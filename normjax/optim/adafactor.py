"""Adafactor: Shazeer, Stern 2018, arXiv:1804.04235."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import compose, meshes, safe
from normjax.types import Array, PyTree

__all__ = ["adafactor", "scale_by_factored_rms"]


def _beside(state: Any, params: PyTree) -> Any:
  """The first state, zeros, on the devices of the parameters."""

  def whole(v, w):
    return meshes.zeros(w, dtype=v.dtype) if v.shape == w.shape else v

  def reduced(v, w, full, rank):
    if full.shape == w.shape:
      return v  # Stands in for what this leaf does not have.
    lost = np.argsort(w.shape)[rank]
    spec = [axes for n, axes in enumerate(meshes.leaf_spec(w)) if n != lost]
    return meshes.zeros(w, v.shape, v.dtype, spec)

  # v_row lacks the longest axis, v_col the second.
  row, column = (
    jax.tree.map(
      lambda v, w, full, rank=rank: reduced(v, w, full, rank),
      getattr(state, name),
      params,
      state.v,
    )
    for name, rank in (("v_row", -1), ("v_col", -2))
  )
  return state._replace(
    v_row=row, v_col=column, v=jax.tree.map(whole, state.v, params)
  )


def _bounded(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """`inner` for gradients whose squares would overflow.

  Entries are cut at max^0.4 (3e15 in float32), so that sums of squares stay
  finite; where a row is so far below the others that its factor overflows,
  its entries rest. NaN goes through.
  """

  def update(updates, state, params=None):
    def cut(g):
      limit = float(jnp.finfo(g.dtype).max) ** 0.4
      return jnp.clip(g, -limit, limit)

    cuts = jax.tree.map(cut, updates)
    scaled, state = inner.update(cuts, state, params)
    rest = jax.tree.map(
      lambda u, g: jnp.where(jnp.isfinite(u) | jnp.isnan(g), u, 0), scaled, cuts
    )
    return rest, state

  def init(params):
    return _beside(inner.init(params), params)

  return optax.GradientTransformation(init, update)


def _decay_at(step: Any, exponent: Any) -> Array:
  # 1 - t^-exponent. optax computes it in float32, whatever the rest is in.
  return -jnp.expm1(-exponent * jnp.log(jnp.asarray(step + 1, float)))


@validate.options
@meshes.on_any_mesh
def scale_by_factored_rms(
  decay_rate: float | Array = 0.8,
  eps: float | Array = 1e-30,
  *,
  factored: bool = True,
  min_dim_size_to_factor: int | None = None,
  nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """`optax.scale_by_factored_rms` with float32 arithmetic at any scale.

  The state is optax's. Arguments as in `adafactor`.
  """
  method = "scale_by_factored_rms"
  validate.scalars(method, decay_rate=decay_rate, eps=eps)
  least_size = validate.count(
    method, "min_dim_size_to_factor", min_dim_size_to_factor, default=128
  )
  inner = optax.scale_by_factored_rms(
    factored=factored,
    decay_rate=decay_rate,
    min_dim_size_to_factor=least_size,
    epsilon=eps,
    decay_rate_fn=_decay_at,
  )
  return compose.stored(
    method,
    _bounded(inner),
    squares=("v_row", "v_col", "v"),
    v_row=nu_dtype,
    v_col=nu_dtype,
    v=nu_dtype,
  )


def _scale_by_parameter(
  min_parameter_scale: float | Array,
) -> optax.GradientTransformation:
  """Multiplies by the root mean square of the weights, leaf by leaf."""

  def scale(u, w):
    if not w.size:
      return u
    w = safe.promote(w)
    rms = safe.norm(w, range(w.ndim)) / math.sqrt(w.size)
    return (u * jnp.maximum(rms, min_parameter_scale)).astype(u.dtype)

  def update(updates, state, params=None):
    return jax.tree.map(scale, updates, params), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@validate.options
def adafactor(
  learning_rate: optax.ScalarOrSchedule,
  decay_rate: float | Array = 0.8,
  eps: float | Array = 1e-30,
  *,
  min_dim_size_to_factor: int | None = None,
  factored: bool = True,
  clipping_threshold: float | Array | None = 1.0,
  multiply_by_parameter_scale: bool = True,
  min_parameter_scale: float | Array = 1e-3,
  momentum: float | Array | None = None,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
) -> optax.GradientTransformationExtraArgs:
  """Adam's second moment as an outer product of its row and column sums.

      beta = 1 - t^-decay_rate
      R = beta R + (1 - beta) mean_columns(g^2 + eps);  C likewise over rows
      u = g / sqrt(R C / mean(R));  u = u / max(1, RMS(u) / clipping_threshold)
      w -= lr (max(min_parameter_scale, RMS(w)) u + wd w)

  arXiv:1804.04235, algorithms 4 to 6, by optax's transform. What differs:

  - From the paper: only a leaf whose second-largest axis has
    `min_dim_size_to_factor` entries is factored, over its two largest axes;
    others keep the whole v. The relative rate is `learning_rate`; the paper's
    is the schedule t -> min(1e-2, 1 / sqrt(t)).
  - From optax: the decay is times the learning rate, as in every optimizer
    here. optax's is not: its weight_decay_rate=0.1 takes a tenth of the
    weights at every step. Statistics are in float32; entries of the gradient
    beyond 3e15, whose squares would overflow in sums, are cut there. The
    momentum averages steps before the learning rate, which is the same for a
    constant one.

  A zero gradient moves nothing; NaN spoils its leaf.

  Args:
    learning_rate: relative step: number, traced scalar or schedule.
    decay_rate: exponent of the second moment's decay, >= 0.
    eps: the paper's epsilon_1, added to g^2, >= 0.
    min_dim_size_to_factor: the smallest axis that is factored; None stands for
      128.
    factored: False keeps every v whole.
    clipping_threshold: the paper's d; None for no clipping.
    multiply_by_parameter_scale: False makes the step absolute.
    min_parameter_scale: the paper's epsilon_2.
    momentum: the paper's beta_1, in [0, 1), without bias correction; None for
      none and no state for it.
    mu_dtype: of the stored momentum; None takes the parameter's.
    nu_dtype: of the stored second moments; None takes float32 at least.
    weight_decay: rate of the decay, >= 0, times lr.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.

  Raises:
    UserError: a concrete number out of range, or a mask of another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.sum(w**2)
    >>> tx = optim.adafactor(0.1)
    >>> w = jnp.array([1.0, 2.0, 3.0])
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    11.55
    9.65
    8.17
  """
  direction: list[optax.GradientTransformation] = [
    scale_by_factored_rms(
      decay_rate,
      eps,
      factored=factored,
      min_dim_size_to_factor=min_dim_size_to_factor,
      nu_dtype=nu_dtype,
    )
  ]
  if clipping_threshold is not None:
    validate.scalars("adafactor", clipping_threshold=clipping_threshold)
    direction.append(optax.clip_by_block_rms(clipping_threshold))
  if multiply_by_parameter_scale:
    validate.scalars("adafactor", min_parameter_scale=min_parameter_scale)
    direction.append(_scale_by_parameter(min_parameter_scale))
  if momentum is not None:
    validate.betas("adafactor", momentum=momentum)
    direction.append(
      compose.stored(
        "adafactor", optax.ema(momentum, debias=False), ema=mu_dtype
      )
    )
  return compose.finish(
    "adafactor",
    compose.descend(
      "adafactor",
      optax.chain(*direction),
      learning_rate,
      weight_decay=weight_decay,
      mask=mask,
    ),
    mask,
  )
