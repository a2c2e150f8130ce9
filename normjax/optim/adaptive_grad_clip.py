"""Adaptive gradient clipping: Brock et al. 2021, arXiv:2102.06171."""

import jax
import jax.numpy as jnp
import optax

from normjax import validate
from normjax.optim import compose, groups, safe
from normjax.optim import dims as dims_lib
from normjax.types import Array

__all__ = ["adaptive_grad_clip"]

# Under the norm that divides, as in the official code; without effect, since
# only a norm above clipping * eps is divided by.
_NORM_FLOOR = 1e-6


def _axes(leaf: Array, entry: dims_lib.MatrixDims | None) -> tuple[int, ...]:
  """The axes of a unit."""
  one_axis = sum(size > 1 for size in leaf.shape) <= 1
  if entry is None or one_axis:
    return tuple(range(leaf.ndim))
  return dims_lib.axes(entry)[0]


@validate.options
def adaptive_grad_clip(
  clipping: float | Array = 0.01,
  eps: float | Array = 1e-3,
  *,
  exempt: str | None = groups.HEAD_NAMES,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """Bounds the gradient of each unit by a fraction of the unit's own norm.

      M = clipping max(||w||, eps)
      g = M / ||g|| g   where ||g|| > M

  arXiv:2102.06171, equation 3. A unit is what feeds one output of a dense
  layer or a convolution: the norms are over (inputs) or (height, width,
  inputs), and over the whole of gains, biases and of leaves with at most one
  axis longer than 1. On dense kernels (in, out) and on HWIO this is
  `optax.adaptive_grad_clip` and the official code; both go by the rank, and
  take a leaf (h, k, d) of attention's output for (inputs, …), where `dims`
  sums over h and k. eps bounds the norm from below, so that what starts at 0
  can move, by clipping * eps per step. Norms are in float32 (float64 stays) and
  do not overflow; a NaN spreads over its unit.

  It belongs before weight decay and momentum: on the gradient itself.

  Args:
    clipping: the largest ratio of the norms, >= 0.
    eps: the least norm of w, >= 0.
    exempt: pattern of the paths whose weights are not clipped, as the last
      layer's are not in section 4.1; gains and biases under them are. None
      clips all.
    dims: units, as reduced axes: a tree of `MatrixDims` and None (the whole
      leaf), or a function from params to one; None for `channel_dims`.

  Raises:
    UserError: a concrete number below 0, or dims of another structure.
    TypeError: an option or a leaf of another type.
  """
  method = "adaptive_grad_clip"
  validate.scalars(method, clipping=clipping, eps=eps)
  rules = [(groups.VECTOR_NAMES, True), (".*", True)]
  if exempt is not None:
    rules.insert(1, (exempt, False))

  def resolve(params):
    return dims_lib.resolve(dims, params, dims_lib.channel_dims)

  def init(params):
    groups.check_leaves(method, params)
    resolve(params)
    return optax.EmptyState()

  def clip(g, w, entry):
    wide, w = safe.promote(g), safe.promote(w)
    axes = _axes(g, entry)
    norm = safe.norm(wide, axes)
    most = clipping * jnp.maximum(safe.norm(w, axes), eps)
    clipped = wide * (most / jnp.maximum(norm, _NORM_FLOOR))
    return jnp.where(norm < most, wide, clipped).astype(g.dtype)

  def update(updates, state, params=None, **extra_args):
    del extra_args
    compose.need_params(method, params)
    flat, structure = jax.tree.flatten(updates)
    rows = zip(
      flat,
      jax.tree.leaves(params),
      resolve(params),
      groups.match_tree(rules, params).values(),
      strict=True,
    )
    clipped = [clip(g, w, entry) if clips else g for g, w, entry, clips in rows]
    return structure.unflatten(clipped), state

  return optax.GradientTransformationExtraArgs(init, update)
