"""SWAN: Ma, Gong, Scetbon, Meeds 2025, arXiv:2412.13148."""

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import dims as dims_lib
from normjax.optim import (
  meshes,
  multi_norm,
  routed,
  safe,
  whitening,
)
from normjax.types import Array

__all__ = ["scale_by_swan", "swan"]

# There is no official code, and the public descriptions differ.
PRESETS: Mapping[str, Mapping[str, Any]] = {
  "inexact": {"center": True, "ns_steps": 10, "ns_beta": 0.8},
  "uncentered": {"center": False, "ns_steps": 10, "ns_beta": 0.8},
  "textbook": {
    "center": True,
    "ns_steps": 5,
    "ns_beta": 0.5,
    "prenorm": "gram",
  },
  "diagonal": {
    "center": False,
    "ns_steps": 2,
    "ns_beta": 0.4,
    "diagonal": True,
  },
}

_AXES = {"output": 1, "reduction": 2}


def grad_norm(
  x_bio: Array, *, center: bool = True, side: str = "output"
) -> Array:
  """Each unit's entries: minus their mean, over their standard deviation.

  Args:
    x_bio: matrices; statistics accumulate in float32 at least.
    center: False divides by the root mean square instead.
    side: "output" normalises each output unit over its inputs, "reduction"
      each input over the outputs.

  Returns:
    The shape and dtype of x. A unit that is constant, up to rounding, becomes
    zero under centring; zero stays zero.
  """
  axis = _AXES[side]
  x = safe.promote(x_bio)
  peak = safe.largest(x, (axis,))
  x = safe.divide(x, peak)
  if center:
    x = x - jnp.mean(x, axis=axis, keepdims=True)
  mean_square = jnp.mean(x * x, axis=axis, keepdims=True)
  if center:
    # What the rounding of the mean leaves of a constant is no signal.
    noise = 8 * jnp.finfo(x.dtype).eps
    mean_square = jnp.where(mean_square <= noise**2, 0, mean_square)
  return (x * safe.rsqrt(mean_square)).astype(x_bio.dtype)


@validate.options
@meshes.on_any_mesh
def scale_by_swan(
  *,
  preset: str = "inexact",
  ns_steps: int | Array | None = None,
  ns_beta: float | Array | None = None,
  center: bool | None = None,
  diagonal: bool | None = None,
  prenorm: str | None = None,
  side: str = "output",
  ns_dtype: DTypeLike | None = None,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """GradNorm, then GradWhitening; stateless, other leaves pass unchanged.

  Arguments as in `swan`.
  """
  validate.choice("scale_by_swan", "preset", preset, tuple(PRESETS))
  given = {
    "ns_steps": ns_steps,
    "ns_beta": ns_beta,
    "center": center,
    "diagonal": diagonal,
    "prenorm": prenorm,
  }
  options: dict[str, Any] = {
    "diagonal": False,
    "prenorm": "gradient",
    **PRESETS[preset],
  }
  options |= {key: value for key, value in given.items() if value is not None}
  centered = options.pop("center")
  validate.traced_count("scale_by_swan", "ns_steps", options["ns_steps"])
  validate.scalar("scale_by_swan", "ns_beta", options["ns_beta"], below=1.0)
  validate.choice(
    "scale_by_swan", "prenorm", options["prenorm"], ("gradient", "gram")
  )
  validate.choice("scale_by_swan", "side", side, tuple(_AXES))
  return multi_norm.scale_by_multi_norm(
    (
      functools.partial(grad_norm, center=centered, side=side),
      functools.partial(whitening.whiten, ns_dtype=ns_dtype, **options),
    ),
    num_iters=1,
    dims=dims,
  )


@validate.options
def swan(
  learning_rate: optax.ScalarOrSchedule,
  *,
  preset: str = "inexact",
  ns_steps: int | Array | None = None,
  ns_beta: float | Array | None = None,
  center: bool | None = None,
  diagonal: bool | None = None,
  prenorm: str | None = None,
  side: str = "output",
  matrix_scale: float | Array = 0.05,
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
  ns_dtype: DTypeLike | None = None,
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
  """Gradient descent with each matrix's gradient normalised and whitened.

      X = (G - mean) / std       of each output unit, over its inputs
      D = (X X^T)^(-1/2) X       by Newton-Schulz on the smaller side
      w -= lr (matrix_scale D / rms(D) + wd w)

  arXiv:2412.13148; the operators as equations 30 to 32 of arXiv:2502.07752,
  by the same authors, print them. Matrices have no state. There is no
  official code, and public re-implementations differ; the presets are

      "inexact"     centred, 10 steps of beta 0.8: the most common reading
      "uncentered"  the same without the mean, SWAN as the instance of
                    `scale_by_multi_norm` of arXiv:2502.06742
      "textbook"    centred, 5 steps of beta 1/2 on X X^T / ||X X^T||_F: the
                    iteration that arXiv:2502.07752, appendix B.8, prints
      "diagonal"    uncentred, 2 diagonal steps of beta 0.4, for speed

  and options that are given override them. The step's size does not depend on
  the gradient's. With centring, a unit of one input never moves, nor does the
  mean of a unit's inputs. A zero gradient moves nothing; a non-finite entry
  spoils its matrix.

  Args:
    learning_rate: the global rate: number, traced scalar or schedule.
    preset: the source of the next five.
    ns_steps: iterations of Newton-Schulz, may be traced.
    ns_beta: its step, in [0, 1); 0.8 does not converge, see
      `whitening.whiten`.
    center: whether GradNorm subtracts the mean.
    diagonal: whether the iteration is cut to diagonals.
    prenorm: what Newton-Schulz starts from: "gradient" or "gram".
    side: what GradNorm normalises: each "output" unit (PyTorch's row) or each
      input, "reduction".
    matrix_scale: the matrices' rate beside the global one.
    weight_decay: rate of the decay, >= 0, times the global rate.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.
    ns_dtype: of the iteration; None takes float32.
    dims: the matrices: a tree of `MatrixDims` and None, or a function from
      params to one; None for `default_dims`.
    fallback: moves the leaves without dims; None for AdamW, as follows.
    fallback_learning_rate: of AdamW; None takes the global rate.
    fallback_b1: of AdamW, in [0, 1).
    fallback_b2: of AdamW, in [0, 1).
    fallback_eps: of AdamW.
    fallback_weight_decay: of AdamW; None takes `weight_decay`.
    mu_dtype: of AdamW's first moment; None takes the parameter's.
    nu_dtype: of AdamW's second moment; None takes float32 at least.

  Raises:
    UserError: a concrete number out of range, an unknown preset, a mask or
      dims of another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> def objective(params):
    ...   return jnp.sum(params["kernel"] ** 2) + jnp.sum(params["bias"] ** 2)
    >>> tx = optim.swan(0.1, preset="uncentered", matrix_scale=0.5)
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(f"{objective(params):.2f}")
    7.04
    6.14
    5.32
  """
  validate.scalars("swan", matrix_scale=matrix_scale)

  def direction(dims):
    return optax.chain(
      scale_by_swan(
        preset=preset,
        ns_steps=ns_steps,
        ns_beta=ns_beta,
        center=center,
        diagonal=diagonal,
        prenorm=prenorm,
        side=side,
        ns_dtype=ns_dtype,
        dims=dims,
      ),
      optax.scale(matrix_scale),
    )

  return routed.optimizer(
    "swan",
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
