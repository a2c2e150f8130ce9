"""GaLore: Zhao et al. 2024, arXiv:2403.03507."""

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
  low_rank,
  meshes,
  projection,
  routed,
  safe,
  transformers_adam,
)
from normjax.optim.held import Coding
from normjax.optim.quantize_state import NON_NEGATIVE, coding, quantize_state
from normjax.types import Array, PyTree

__all__ = ["galore", "scale_by_galore"]


class GaLoreState(NamedTuple):
  """State of `scale_by_galore`."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  mu: PyTree  # (n, inputs, outputs), the smaller reduced to r, in mu_dtype.
  # The same of g^2, in nu_dtype; with bits=8 both are a `Quantized` of trees.
  nu: PyTree
  basis: PyTree  # (n, r, k) with k the smaller side, in mu_dtype.


@validate.options
@meshes.on_any_mesh
def scale_by_galore(
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-6,
  *,
  rank: int | None = None,
  update_proj_gap: int | Array = 200,
  scale: float | Array = 0.25,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  bits: int | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """GaLore's direction of every matrix; other leaves pass unchanged.

  Arguments as in `galore`.
  """
  method = "scale_by_galore"
  rank = low_rank.check(
    method,
    b1,
    b2,
    eps,
    rank=rank,
    update_proj_gap=update_proj_gap,
    scale=scale,
  )
  held = _held(method, bits)

  def init(params):
    groups.check_leaves(method, params)
    entries = projection.chosen(dims, params)
    mu, nu, basis = low_rank.zeros(
      params, entries, rank=rank, mu_dtype=mu_dtype, nu_dtype=nu_dtype
    )
    if held is not None:  # Of moments as they are: their leaf is not W's.
      wide = jax.tree.map(safe.promote, {"mu": mu, "nu": nu})
      mu, nu = held.init(wide, wide["mu"]).values()
    return GaLoreState(jnp.zeros((), jnp.int32), mu, nu, basis)

  def update_matrix(g, m, v, basis, count):
    basis = safe.promote(basis)
    adam, m, v = low_rank.adam(
      projection.project(g, basis), m, v, b1=b1, b2=b2, eps=eps
    )
    factor = transformers_adam.correction(count, adam.dtype, b1=b1, b2=b2)
    return projection.project_back(scale * factor * adam, basis), m, v

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    count = optax.safe_increment(state.count)

    def step(gradients, mu, nu, basis):
      basis = low_rank.refresh(
        gradients, basis, count, rank=rank, update_proj_gap=update_proj_gap
      )
      rows = [
        update_matrix(*row, count)
        for row in zip(gradients, mu, nu, basis, strict=True)
      ]
      return *zip(*rows, strict=True), basis

    stored = {"mu": state.mu, "nu": state.nu}
    mu, nu = (stored if held is None else held.widen(stored)).values()
    updates, (mu, nu, basis) = projection.step_matrices(
      step,
      updates,
      (mu, nu, state.basis),
      projection.chosen(dims, updates),
    )
    if held is not None:
      mu, nu = held.narrow({"mu": mu, "nu": nu}, stored).values()
    return updates, GaLoreState(count, mu, nu, basis)

  return optax.GradientTransformationExtraArgs(init, update)


def _held(method: str, bits: int | None) -> Coding | None:
  """How moments are held; None: as arrays."""
  validate.choice(method, "bits", bits, (None, 8))
  if bits is None:
    return None
  return coding(
    method,
    bits=bits,
    block_size=None,
    min_size=None,
    block_layout="rows",
    keep=None,
    signed_code=None,
    unsigned_code=None,
    signed_rounding="nearest",
    unsigned_rounding="nearest",
    non_negative=NON_NEGATIVE,
  )


@validate.options
def galore(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-6,
  *,
  rank: int | None = None,
  update_proj_gap: int | Array = 200,
  scale: float | Array = 0.25,
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  bits: int | None = None,
  dims: dims_lib.DimsSpec = None,
  fallback: optax.GradientTransformation | None = None,
  fallback_learning_rate: optax.ScalarOrSchedule | None = None,
  fallback_b1: float | Array | None = None,
  fallback_b2: float | Array | None = None,
  fallback_eps: float | Array | None = None,
  fallback_weight_decay: float | Array | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Adam in the span of the gradient's leading singular vectors.

      P = r leading singular vectors of g on its smaller side   every gap
      R = P g;  m = b1 m + (1 - b1) R;  v = b2 v + (1 - b2) R^2
      d = P^T (m / (sqrt(v) + eps)) sqrt(1 - b2^t) / (1 - b1^t)
      w -= lr scale d;  w -= lr wd w

  arXiv:2403.03507, algorithm 2, in the order of the official code, whose
  `proj_type` is "std". It projects the smaller side, the inputs of a square
  kernel, where `optax.contrib.galore` projects the larger. What is outside
  the span does not move. The moments are not carried to a new P; its vectors'
  signs, which the official code leaves to the SVD, are those that come next to
  the old ones. The other leaves take the same Adam at the same learning rate,
  without `scale`.

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
    scale: the paper's alpha, of the matrices' step, >= 0.
    weight_decay: rate of the decay, >= 0, times the learning rate; it acts on
      the weight that the step has moved.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.
    mu_dtype: of the stored first moment and P; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.
    bits: 8 holds moments as `adam_8bit` does, by blocks of 256 along the last
      axis of the projected ones; P stays in `mu_dtype`, and the fallback's
      moments are `quantize_state`'s. None holds them as arrays. Without effect
      on a `fallback` of yours. As in the official `GaLoreAdamW8bit`, but for
      its flat blocks and eps, which is bitsandbytes' there.
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
    >>> tx = optim.galore(0.1, rank=1)
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(f"{objective(params):.2f}")
    7.41
    6.86
    6.37
  """
  direction = functools.partial(
    scale_by_galore,
    b1,
    b2,
    eps,
    rank=rank,
    update_proj_gap=update_proj_gap,
    scale=scale,
    mu_dtype=mu_dtype,
    nu_dtype=nu_dtype,
    bits=bits,
  )

  def adam_8bit(*args, **dtypes):
    adam = transformers_adam.scale_by_adam(*args, **dtypes)
    return quantize_state(adam)

  return transformers_adam.optimizer(
    "galore",
    direction,
    learning_rate,
    b1,
    b2,
    eps,
    adam=transformers_adam.scale_by_adam if bits is None else adam_8bit,
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
