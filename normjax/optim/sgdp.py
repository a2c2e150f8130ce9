"""SGDP: Heo et al. 2021, arXiv:2006.08217."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import compose, groups, masks, radial, safe
from normjax.optim import dims as dims_lib
from normjax.types import Array, PyTree

__all__ = ["scale_by_sgdp", "sgdp"]


class SGDPState(NamedTuple):
  """State of `scale_by_sgdp`."""

  mu: PyTree  # The momentum: shapes of the parameters, in mu_dtype.


@validate.options
def scale_by_sgdp(
  momentum: float | Array = 0.0,
  *,
  dampening: float | Array = 0.0,
  weight_decay: float | Array = 0.0,
  mask: Any = None,
  delta: float | Array = 0.1,
  wd_ratio: float | Array = 0.1,
  nesterov: bool = False,
  eps: float | Array = 1e-8,
  official_aliasing: bool = False,
  mu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """SGDP's direction, the decay included: its rate is the tensor's own.

  Arguments as in `sgdp`.
  """
  validate.betas("scale_by_sgdp", momentum=momentum)
  validate.scalar("scale_by_sgdp", "dampening", dampening)
  validate.scalars(
    "scale_by_sgdp",
    weight_decay=weight_decay,
    delta=delta,
    wd_ratio=wd_ratio,
    eps=eps,
  )
  aliased = official_aliasing and not nesterov

  def resolve(params):
    return dims_lib.resolve(dims, params, dims_lib.channel_dims)

  def init(params):
    groups.check_leaves("scale_by_sgdp", params)
    resolve(params)
    return SGDPState(mu=compose.zeros(params, mu_dtype))

  def update_leaf(g, w, m, entry, decayed):
    g, w, m = map(safe.promote, (g, w, m))
    m = momentum * m + (1 - dampening) * g
    p = g + momentum * m if nesterov else m
    ratio = 1.0
    if entry is not None:
      p, ratio = radial.remove_radial(
        w, g, p, entry, delta=delta, wd_ratio=wd_ratio, eps=eps
      )
    m = p if aliased else m
    decay = weight_decay * ratio / (1 - momentum)
    return (p + decay * w if decayed else p), m

  def update(updates, state, params=None, **extra_args):
    del extra_args
    compose.need_params("sgdp", params)
    flat, structure = jax.tree.flatten(updates)
    rows = zip(
      flat,
      jax.tree.leaves(params),
      jax.tree.leaves(state.mu),
      resolve(params),
      masks.resolve_mask(mask, params),
      strict=True,
    )
    moved = [update_leaf(*row) for row in rows]
    direction, mu = (
      structure.unflatten([row[n] for row in moved]) for n in range(2)
    )
    new = SGDPState(mu=compose.cast_like(mu, state.mu))
    return compose.cast_like(direction, updates), new

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def sgdp(
  learning_rate: optax.ScalarOrSchedule,
  momentum: float | Array = 0.0,
  *,
  dampening: float | Array = 0.0,
  weight_decay: float | Array = 0.0,
  mask: Any = None,
  delta: float | Array = 0.1,
  wd_ratio: float | Array = 0.1,
  nesterov: bool = False,
  eps: float | Array = 1e-8,
  official_aliasing: bool = False,
  mu_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """SGD with momentum that does not lengthen scale-invariant weights.

      m = momentum m + (1 - dampening) g
      p = g + momentum m   (nesterov)   or   m
      p, r = the projection and decay factor of `adamp`
      w -= lr (p + wd r / (1 - momentum) w)

  arXiv:2006.08217, in the order of the official code, which divides the decay
  by 1 - momentum: at 0.9 it is ten times that of an `optax.sgd` beside
  `add_decayed_weights`. Views, channels and the treatment of gains and biases
  are those of `adamp`. m starts at 0, so that dampening acts on the first
  step too. A zero gradient on a fresh state moves nothing but by the decay.

  Args:
    learning_rate: number, traced scalar or schedule.
    momentum: in [0, 1).
    dampening: what the gradient loses on its way into m, >= 0.
    weight_decay: rate of the decay, >= 0.
    mask: which leaves decay: None (all, the official choice), "default"
      (matrices and embeddings), a tree of booleans or a function.
    delta: threshold of the cosine, >= 0.
    wd_ratio: the decay's factor where the projection fired.
    nesterov: whether the step looks ahead.
    eps: added to the norm of w, and the least norm in the cosine; >= 0.
    official_aliasing: without nesterov the official code projects in place,
      and the momentum with it. True does so; False, as in timm's copy, only
      projects the step. Without effect under nesterov.
    mu_dtype: of the stored momentum; None takes the parameter's.
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
    >>> tx = optim.sgdp(0.1, 0.9, weight_decay=1e-5, nesterov=True)
    >>> w = jnp.array([[3.0, 2.0], [0.0, -1.0]])
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    3.84
    0.49
    0.12
  """
  direction = scale_by_sgdp(
    momentum,
    dampening=dampening,
    weight_decay=weight_decay,
    mask=mask,
    delta=delta,
    wd_ratio=wd_ratio,
    nesterov=nesterov,
    eps=eps,
    official_aliasing=official_aliasing,
    mu_dtype=mu_dtype,
    dims=dims,
  )
  return compose.finish(
    "sgdp", compose.descend("sgdp", direction, learning_rate), mask
  )


def routes(params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  return radial.routes("sgdp", params, options.get("dims"))
