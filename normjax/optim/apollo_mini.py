"""APOLLO-Mini: Zhu et al. 2024, arXiv:2412.05270."""

from typing import Any

import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import dims as dims_lib
from normjax.optim.apollo import apollo
from normjax.types import Array

__all__ = ["apollo_mini"]


@validate.options
def apollo_mini(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-6,
  *,
  update_proj_gap: int | Array = 200,
  scale: float | Array = 128.0,
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
  """`apollo` of rank 1 with one factor for the whole matrix.

      R = p g,  a = the Adam of R;  S = g ||a|| / (||R|| + 1e-8)
      w -= lr sqrt(scale) sqrt(1 - b2^t) / (1 - b1^t) limit(S)

  arXiv:2412.05270; equations, edge cases and arguments are those of `apollo`.
  ||a|| is that of one row of an Adam step, and so sqrt(k) below that of all k
  rows, which `scale` makes up for. The default is that of the official README,
  128; its scripts (scripts/pretrain_c4, of zhuhanqing/APOLLO) run

      60M                  scale 128, a quarter of the width, scale_front
      130M                 scale 192, a quarter of the width, scale_front
      350M, 1B, 7B, 13B    scale 128
      350M, 1,024 tokens   scale 384

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added to sqrt(v), before the bias correction, >= 0.
    update_proj_gap: steps from one p to the next, may be traced.
    scale: its root multiplies the matrices' step, >= 0.
    scale_front: whether sqrt(scale) comes before the limiter.
    limit_growth: whether the norm of S grows by 1 % a step at most.
    seed: of the projections, >= 0, may be traced.
    weight_decay: rate of the decay, >= 0, times the learning rate.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.
    mu_dtype: of the stored first moment and norm; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.
    dims: the matrices: a tree of `MatrixDims` and None, or a function from
      params to one; None for `default_dims`.
    fallback: moves the leaves without dims; None for Adam, as in `apollo`.
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
    >>> tx = optim.apollo_mini(0.1, scale=4.0)
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(f"{objective(params):.2f}")
    7.12
    6.43
    5.83
  """
  return apollo(
    learning_rate,
    b1,
    b2,
    eps,
    rank=1,
    update_proj_gap=update_proj_gap,
    scale=scale,
    scale_type="tensor",
    scale_front=scale_front,
    limit_growth=limit_growth,
    seed=seed,
    weight_decay=weight_decay,
    mask=mask,
    mu_dtype=mu_dtype,
    nu_dtype=nu_dtype,
    dims=dims,
    fallback=fallback,
    fallback_learning_rate=fallback_learning_rate,
    fallback_b1=fallback_b1,
    fallback_b2=fallback_b2,
    fallback_eps=fallback_eps,
    fallback_weight_decay=fallback_weight_decay,
  )
