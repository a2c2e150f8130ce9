"""AdamP: Heo et al. 2021, arXiv:2006.08217."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from normjax import validate
from normjax.optim import compose, groups, masks, radial, safe
from normjax.optim import dims as dims_lib
from normjax.types import Array, PyTree

__all__ = ["adamp", "scale_by_adamp"]


class AdamPState(NamedTuple):
  """State of `scale_by_adamp`."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  mu: PyTree  # The shapes of the parameters, in mu_dtype.
  nu: PyTree  # The shapes of the parameters, in nu_dtype.


@validate.options
def scale_by_adamp(
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  weight_decay: float | Array = 0.0,
  mask: Any = None,
  delta: float | Array = 0.1,
  wd_ratio: float | Array = 0.1,
  nesterov: bool = False,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """AdamP's direction, the decay included: its rate is the tensor's own.

  Arguments as in `adamp`.
  """
  validate.betas("scale_by_adamp", b1=b1, b2=b2)
  validate.scalars(
    "scale_by_adamp",
    eps=eps,
    weight_decay=weight_decay,
    delta=delta,
    wd_ratio=wd_ratio,
  )

  def resolve(params):
    return dims_lib.resolve(dims, params, dims_lib.channel_dims)

  def init(params):
    groups.check_leaves("scale_by_adamp", params)
    resolve(params)
    return AdamPState(
      count=jnp.zeros((), jnp.int32),
      mu=compose.zeros(params, mu_dtype),
      nu=compose.second_moments(params, nu_dtype),
    )

  def update_leaf(g, w, m, v, entry, decayed, count):
    g, w, m, v = map(safe.promote, (g, w, m, v))
    cut = safe.clip_for_square(g)
    m = b1 * m + (1 - b1) * cut
    v = b2 * v + (1 - b2) * cut * cut
    first = safe.bias_correction(b1, count, m.dtype)
    second = safe.bias_correction(b2, count, v.dtype)
    ahead = b1 * m + (1 - b1) * cut if nesterov else m
    p = safe.divide(ahead, jnp.sqrt(v) / jnp.sqrt(second) + eps)
    ratio = 1.0
    if entry is not None:
      p, ratio = radial.remove_radial(
        w, g, p, entry, delta=delta, wd_ratio=wd_ratio, eps=eps
      )
    p = p / first
    return (p + weight_decay * ratio * w if decayed else p), m, v

  def update(updates, state, params=None, **extra_args):
    del extra_args
    compose.need_params("adamp", params)
    count = optax.safe_increment(state.count)
    flat, structure = jax.tree.flatten(updates)
    rows = zip(
      flat,
      jax.tree.leaves(params),
      jax.tree.leaves(state.mu),
      jax.tree.leaves(state.nu),
      resolve(params),
      masks.resolve_mask(mask, params),
      strict=True,
    )
    moved = [
      update_leaf(g, w, m, v, entry, decayed, count)
      for g, w, m, v, entry, decayed in rows
    ]
    direction, mu, nu = (
      structure.unflatten([row[n] for row in moved]) for n in range(3)
    )
    new = AdamPState(
      count=count,
      mu=compose.cast_like(mu, state.mu),
      nu=compose.cast_like(nu, state.nu),
    )
    return compose.cast_like(direction, updates), new

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def adamp(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  weight_decay: float | Array = 0.0,
  mask: Any = None,
  delta: float | Array = 0.1,
  wd_ratio: float | Array = 0.1,
  nesterov: bool = False,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """AdamW that does not lengthen scale-invariant weights.

      m, v, as in Adam;  p = m / (sqrt(v / (1 - b2^t)) + eps)
      for a view, with w_c and g_c its vectors of size n:
        if max_c |cos(g_c, w_c)| < delta / sqrt(n):
          p_c -= ŵ_c (ŵ_c . p_c),  ŵ_c = w_c / (||w_c|| + eps);  r = wd_ratio
      w -= lr (p / (1 - b1^t) + wd r w)

  arXiv:2006.08217, algorithm 1 and equation 12, in the order of the official
  code. The views are the channels, then the whole layer; the first that
  passes is projected, else r = 1. A channel is an output unit, or an
  embedding's token. As in the official code, gains and biases are AdamW's,
  with full decay. Under a batch axis each tensor decides for itself. A zero
  weight or gradient passes the test: the step is unchanged, r = wd_ratio.
  Entries of the gradient beyond 9e18, whose squares overflow float32, are cut
  there.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added outside the square root, to the norm of w, and the least norm
      in the cosine; >= 0.
    weight_decay: rate of the decay, >= 0.
    mask: which leaves decay: None (all, the official choice), "default"
      (matrices and embeddings), a tree of booleans or a function.
    delta: threshold of the cosine, >= 0.
    wd_ratio: the decay's factor where the projection fired.
    nesterov: whether the gradient is mixed into m once more.
    mu_dtype: of the stored first moment; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.
    dims: channels: a tree of `MatrixDims` and None (not projected), or a
      function from params to one; None for `channel_dims`.

  Raises:
    UserError: a concrete number out of range, a mask or dims of another
      structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.sum((w - 1) ** 2)
    >>> tx = optim.adamp(0.1, weight_decay=1e-2)
    >>> w = jnp.array([[3.0, 2.0], [0.0, -1.0]])
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    8.82
    7.73
    6.72
  """
  direction = scale_by_adamp(
    b1,
    b2,
    eps,
    weight_decay=weight_decay,
    mask=mask,
    delta=delta,
    wd_ratio=wd_ratio,
    nesterov=nesterov,
    mu_dtype=mu_dtype,
    nu_dtype=nu_dtype,
    dims=dims,
  )
  return compose.finish(
    "adamp", compose.descend("adamp", direction, learning_rate), mask
  )


def routes(params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  return radial.routes("adamp", params, options.get("dims"))
