"""SCALE: Glentis, Li, Han, Hong 2025, arXiv:2506.16659.

The abstract and the official repository
(OptimAI-Lab/Minimalist_LLM_Pretraining, which has no licence) were read, of the
latter the equations; the rest of the paper was not.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import compose, groups, meshes, routed, safe
from normjax.optim import dims as dims_lib
from normjax.types import Array, PyTree

__all__ = ["scale", "scale_by_columns"]


class ScaleByColumnsState(NamedTuple):
  """State of `scale_by_columns`."""

  mu: PyTree  # Momentum in mu_dtype; MaskedNode of leaves without one.


@validate.options
@meshes.on_any_mesh
def scale_by_columns(
  momentum: float | Array = 0.9,
  eps: float | Array = 1e-8,
  *,
  momentum_on: str | None = groups.HEAD_NAMES,
  mu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """SCALE's direction of every matrix; other leaves pass unchanged.

  Arguments as in `scale`.
  """
  method = "scale_by_columns"
  validate.betas(method, momentum=momentum)
  validate.scalars(method, eps=eps)
  of_maps = dims_lib.maps(dims)

  def has(path):
    return momentum_on is not None and bool(re.fullmatch(momentum_on, path))

  def rows(tree):
    """Leaf, its dims or None, whether it has a momentum."""
    entries = dims_lib.resolve(of_maps, tree)
    for (path, leaf), entry in zip(groups.leaves(tree), entries, strict=True):
      yield leaf, entry, entry is not None and has(path)

  def init(params):
    groups.check_leaves(method, params)
    mu = [
      meshes.zeros(w, dtype=mu_dtype) if has_momentum else optax.MaskedNode()
      for w, _, has_momentum in rows(params)
    ]
    return ScaleByColumnsState(jax.tree.structure(params).unflatten(mu))

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    structure = jax.tree.structure(updates)
    directions, moments = [], structure.flatten_up_to(state.mu)
    for n, (g, entry, has_momentum) in enumerate(rows(updates)):
      u = safe.promote(g)
      if has_momentum:
        u = momentum * safe.promote(moments[n]) + (1 - momentum) * u
        moments[n] = u.astype(moments[n].dtype)
      if entry is not None:
        inputs, _ = dims_lib.axes(entry)
        size = math.prod(g.shape[axis] for axis in inputs)
        rms = safe.norm(u, inputs) / math.sqrt(size)
        u = safe.divide(u, jnp.maximum(rms, eps))
      directions.append(u.astype(g.dtype))
    state = ScaleByColumnsState(structure.unflatten(moments))
    return structure.unflatten(directions), state

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def scale(
  learning_rate: optax.ScalarOrSchedule,
  momentum: float | Array = 0.9,
  eps: float | Array = 1e-8,
  *,
  momentum_on: str | None = groups.HEAD_NAMES,
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
  """Gradient descent with normalized columns, and a momentum for the head.

      u_j = g_j / max(rms(g_j), eps)                     of every output j
      m = b m + (1 - b) g,  u_j = m_j / max(rms(m_j), eps)     of the head
      w -= lr (u + wd w)

  A column is an output of a layer, with all its inputs. Of an embedding that
  is a feature, normalized over all tokens, as in the official code. The paper
  divides by a norm; its code, as here, by the root mean square, and so the
  first 60M-350M rates of 0.001 are meant. Gains and biases are moved by an
  Adam, whose rate its 1B and 7B runs set apart.

  The size of a matrix's step does not depend on the gradient's, so that
  clipping does nothing to it. A zero gradient moves nothing; a non-finite entry
  spoils its column. Where the embedding is also the head, or a head has no
  name of one ("head", "lm_head", "logits", "classifier", "unembed",
  "readout"), nothing has a momentum, and `describe` names none: say which in
  `momentum_on`.

  Args:
    learning_rate: number, traced scalar or schedule.
    momentum: decay of the head's momentum, in [0, 1).
    eps: least root mean square that is divided by, >= 0.
    momentum_on: regular expression on the paths of the matrices that have a
      momentum, by default heads; None for none.
    weight_decay: rate of the decay, >= 0.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.
    dims: the matrices: a tree of `MatrixDims` and None, or a function from
      params to one; None for `map_dims`, embeddings and heads too.
    fallback: moves the leaves without dims; None for AdamW, as follows.
    fallback_learning_rate: of AdamW; None takes the matrices'.
    fallback_b1: of AdamW, in [0, 1).
    fallback_b2: of AdamW, in [0, 1).
    fallback_eps: of AdamW.
    fallback_weight_decay: of AdamW; None takes `weight_decay`.
    mu_dtype: of the momentum, and of AdamW's first moment; None takes the
      parameter's.
    nu_dtype: of AdamW's second moment; None takes float32 at least.

  Raises:
    UserError: a concrete number out of range, a mask or dims of another
      structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> def objective(params):
    ...   return jnp.sum(params["kernel"] ** 2) + jnp.sum(params["bias"] ** 2)
    >>> tx = optim.scale(0.1)
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(f"{objective(params):.2f}")
    6.48
    5.12
    3.92
  """

  def direction(dims):
    return scale_by_columns(
      momentum, eps, momentum_on=momentum_on, mu_dtype=mu_dtype, dims=dims
    )

  return routed.optimizer(
    "scale",
    direction,
    learning_rate,
    weight_decay=weight_decay,
    mask=mask,
    dims=dims_lib.maps(dims),
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


def routes(params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  found = compose.routes("scale", dims_lib.maps(options.get("dims")), params)
  pattern = options.get("momentum_on", groups.HEAD_NAMES)
  return {
    path: "scale with momentum"
    if pattern is not None
    and name != compose.FALLBACK
    and re.fullmatch(pattern, path)
    else name
    for path, name in found.items()
  }
