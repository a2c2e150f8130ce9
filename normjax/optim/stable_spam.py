"""Stable-SPAM: Huang et al. 2025, arXiv:2502.17055.

The abstract and the official repository (TianjinYellow/StableSPAM, which has no
licence) were read, of the latter the equations; the rest of the paper was not.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from normjax import validate
from normjax.optim import compose, groups, meshes, safe
from normjax.types import Array, PyTree

__all__ = ["scale_by_stable_spam", "stable_spam"]


class StableSpamState(NamedTuple):
  """State of `scale_by_stable_spam`; what is of a leaf is a scalar."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  mu: PyTree  # First moment, in mu_dtype.
  nu: PyTree  # Second moment, in nu_dtype.
  threshold: PyTree  # Average of the largest |g|.
  norm: PyTree  # Average of ||g||, after the clipping.
  square: PyTree  # Average of ||g||^2, likewise.


@validate.options
@meshes.on_any_mesh
def scale_by_stable_spam(
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  norm_b1: float | Array = 0.7,
  norm_b2: float | Array = 0.9,
  threshold_beta: float | Array = 0.999,
  reset_every: int | Array = 1000,
  official_reset: bool = False,
  cosine_steps: int | Array = 0,
  cosine_end: float | Array = 0.5,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Stable-SPAM's direction; arguments as in `stable_spam`."""
  method = "scale_by_stable_spam"
  validate.betas(
    method,
    b1=b1,
    b2=b2,
    norm_b1=norm_b1,
    norm_b2=norm_b2,
    threshold_beta=threshold_beta,
    cosine_end=cosine_end,
  )
  validate.scalars(method, eps=eps)
  validate.traced_count(method, "reset_every", reset_every, least=0)
  validate.traced_count(method, "cosine_steps", cosine_steps, least=0)

  def init(params):
    groups.check_leaves(method, params)

    def numbers():
      return jax.tree.map(
        lambda w: meshes.zeros(w, (), safe.compute_dtype(w.dtype)), params
      )

    return StableSpamState(
      count=jnp.zeros((), jnp.int32),
      mu=compose.zeros(params, mu_dtype),
      nu=compose.second_moments(params, nu_dtype),
      threshold=numbers(),
      norm=numbers(),
      square=numbers(),
    )

  def fraction(count, dtype):
    """What b1 and norm_b1 are multiplied by."""
    part = jnp.asarray(count, dtype) / (cosine_steps + 1)
    angle = math.pi * jnp.minimum(part, 1)
    falling = cosine_end + (1 - cosine_end) * (1 + jnp.cos(angle)) / 2
    return jnp.where(jnp.asarray(cosine_steps) > 0, falling, 1.0)

  def counters(count):
    """Steps of the moments, of what the limits are of, and whether to reset."""
    period = jnp.maximum(reset_every, 1)
    resets = jnp.asarray(reset_every) > 0
    is_reset = resets & (count % period == 0)
    since = jnp.where(resets & (count >= period), count % period + 1, count)
    if not official_reset:
      return since, count, is_reset
    # The step that resets is counted as the last before it.
    later = (count - 1) % period + 2
    return since, jnp.where(resets & (count > period), later, count), is_reset

  def move(count, g, m, v, threshold, norm, square):
    dtype = g.dtype
    since, seen, is_reset = counters(count)
    if not official_reset:
      m, v = (jnp.where(is_reset, 0, x) for x in (m, v))
    a1, g1 = (b * fraction(count, dtype) for b in (b1, norm_b1))

    def corrected(average, beta, steps):
      return average / safe.bias_correction(beta, steps, dtype)

    axes = range(g.ndim)
    largest = safe.largest(g, axes).reshape(())
    threshold = threshold_beta * threshold + (1 - threshold_beta) * largest
    limit = corrected(threshold, threshold_beta, seen)
    g = jnp.where(jnp.abs(g) > limit, safe.divide(g, largest) * limit, g)
    size = safe.norm(g, axes).reshape(())
    bounded = jnp.minimum(size, safe.square_limit(dtype))
    norm = g1 * norm + (1 - g1) * bounded
    square = norm_b2 * square + (1 - norm_b2) * bounded**2
    root = jnp.sqrt(corrected(square, norm_b2, seen))
    wanted = safe.divide(corrected(norm, g1, seen), root + eps)
    g = safe.divide(g, size) * wanted
    m = a1 * m + (1 - a1) * g
    v = b2 * v + (1 - b2) * g * g
    u = safe.divide(
      corrected(m, a1, since), jnp.sqrt(corrected(v, b2, since)) + eps
    )
    if official_reset:
      m, v = (jnp.where(is_reset, 0, x) for x in (m, v))
    return u, m, v, threshold, norm, square

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    count = optax.safe_increment(state.count)
    trees = (updates, *state[1:])
    columns = [jax.tree.leaves(tree) for tree in trees]
    moved = [
      [
        new.astype(old.dtype)
        for new, old in zip(
          move(count, *map(safe.promote, row)), row, strict=True
        )
      ]
      for row in zip(*columns, strict=True)
    ]
    structure = jax.tree.structure(updates)
    direction, *fields = (
      structure.unflatten([row[n] for row in moved]) for n in range(len(trees))
    )
    return direction, StableSpamState(count, *fields)

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def stable_spam(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  norm_b1: float | Array = 0.7,
  norm_b2: float | Array = 0.9,
  threshold_beta: float | Array = 0.999,
  reset_every: int | Array = 1000,
  official_reset: bool = False,
  cosine_steps: int | Array = 0,
  cosine_end: float | Array = 0.5,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
) -> optax.GradientTransformationExtraArgs:
  """Adam of gradients whose spikes are clipped and whose norms are evened out.

      T = c T + (1 - c) max|g|
      g_i = g_i / max|g| T / (1 - c^t)   where |g_i| > T / (1 - c^t)
      n = a n + (1 - a) ||g||            s = d s + (1 - d) ||g||^2
      g = g / ||g|| (n / (1 - a^t)) / (sqrt(s / (1 - d^t)) + eps)
      Adam's step with g; every `reset_every` steps m = v = 0 and t = 1 of m, v

  of each leaf: arXiv:2502.17055, AdaClip (c), AdaGN (a, d) and the momentum
  reset that it inherits from SPAM (arXiv:2501.06842). A stack of layers is one
  leaf. A non-finite entry of the gradient spoils its leaf.

  The official code resets in another way: the step at which it resets is still
  made of the old moments, as if they were of one gradient, and this gradient is
  then forgotten; the next step corrects for two of which it has one. T, n and s
  are kept, but their t starts at 1 again too: the first limit after a reset is
  500 times T, and nothing is clipped for long. `official_reset` does so; else
  the moments start with the gradient of the step, and T, n and s have a t of
  their own.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added to both roots, >= 0.
    norm_b1: a, the decay of the average norm, in [0, 1).
    norm_b2: d, that of its square, in [0, 1).
    threshold_beta: c, that of the largest entry, in [0, 1).
    reset_every: steps from reset to reset, may be traced; 0 for none.
    official_reset: see above.
    cosine_steps: over how many steps b1 and norm_b1 fall by half a cosine, the
      code's total_T, may be traced; 0 for never.
    cosine_end: what they are then multiplied by, in [0, 1).
    mu_dtype: of the stored first moment; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.
    weight_decay: rate of the decay, >= 0.
    mask: which leaves decay: "default" (matrices and embeddings), None (all, as
      in the official code), a tree of booleans, or a function to one.

  Raises:
    UserError: a concrete number out of range, or a mask of another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.sum(w**2)
    >>> tx = optim.stable_spam(0.1)
    >>> w = jnp.array([1.0, 2.0, 3.0])
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    12.83
    11.72
    10.67
  """
  direction = scale_by_stable_spam(
    b1,
    b2,
    eps,
    norm_b1=norm_b1,
    norm_b2=norm_b2,
    threshold_beta=threshold_beta,
    reset_every=reset_every,
    official_reset=official_reset,
    cosine_steps=cosine_steps,
    cosine_end=cosine_end,
    mu_dtype=mu_dtype,
    nu_dtype=nu_dtype,
  )
  return compose.finish(
    "stable_spam",
    compose.descend(
      "stable_spam",
      direction,
      learning_rate,
      weight_decay=weight_decay,
      mask=mask,
    ),
    mask,
  )
