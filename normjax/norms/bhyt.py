"""Bounded hyperbolic tanh: arXiv:2601.09719."""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from normjax import errors, validate
from normjax.norms import affine, base, moments, pointwise, recompute
from normjax.types import Array


def bhyt(
  lam_init: float = 1.0,
  kappa: float = 10.0,
  eps: float = 1e-6,
  variance: Literal["handed_on", "exact"] = "handed_on",
) -> base.Norm:
  """BHyT: a tanh whose slope keeps nearly all of a token off saturation.

      y = scale * tanh(lam / kappa * x / sqrt(s^2 + eps)),    s^2 = mean(x^2)

  arXiv:2601.09719, with the zero-mean assumption that its experiments make. By
  Chebyshev's inequality at most 1 / kappa^2 of a token's features lie beyond
  kappa s: at least 99% of the arguments of tanh are within [-lam, lam]. s^2 is
  in float32 (float64 for float64), and so is everything else.

  The output is small: for normal x its root mean square is 0.099, 0.193, 0.277
  for lam = 1, 2, 3, where that of `rms_norm` is 1. A comparison at equal
  learning rates and initial weights compares that too.

  In a block x + attention(norm_1(x)), the paper's BHyT does not reduce again
  at the second site, and takes

      s_2^2 = s^2 + ||W_V W_O||_F^2 / (t d) * lam_1^2 / kappa^2

  with lam_1 and kappa of the first site (its `scale` is not counted), no
  gradient through lam_1 and the weights, and the first site's exact s^2, t the
  sequence's length. `context_for_next` computes it and the second site takes it
  as `context`. It is what uniform attention over t independent tokens gives:
  under a causal mask, early tokens average over fewer and have more.

  The official code, at commit e170c9b, differs: it computes the factor of lam
  once, before the weights are initialized; after loading a checkpoint, once
  from the trained weights and the length of the first sequence it sees; and
  its block has eps = 1e-6 whatever the option. Here the block computes
  `branch_gain` from the weights and the length that it is applied with.

  Args:
    lam_init: where `lam`, one scalar of shape (1,), starts, > 0. Public
      scripts start at 2 or 3 before attention, 1 or 3 before the MLP, and keep
      `rms_norm` as the final norm.
    kappa: how many s lie within lam, > 0; a constant.
    eps: inside the square root, before kappa, > 0.
    variance: "handed_on": where a `context` is given it is s_2^2, elsewhere s^2
      is computed, as at first sites and final norms. Without a context the norm
      cannot tell whether one was due: a transformer block that does not carry
      it should refuse a norm whose `context_for_next_fn` is not None. "exact":
      s^2 is computed everywhere (the paper's BHyT*), `context_for_next` returns
      None, and a context is an error.

  Raises:
    UserError: an option out of range; from `apply`, a context that is not one
      value per token, or with "exact"; from `context_for_next`, a branch_gain
      of another shape.
  """
  validate.number("bhyt", "lam_init", lam_init, above=0)
  validate.number("bhyt", "kappa", kappa, above=0)
  validate.number("bhyt", "eps", eps, above=0)
  validate.choice("bhyt", "variance", variance, ("handed_on", "exact"))
  return base.Norm(
    name="bhyt",
    options={
      "lam_init": lam_init,
      "kappa": kappa,
      "eps": eps,
      "variance": variance,
    },
    traits=base.NormTraits(
      statistics="per_example", scale_invariant=True, affine_last=True
    ),
    init_fn=_init,
    apply_fn=_apply,
    context_for_next_fn=_context_for_next if variance == "handed_on" else None,
  )


def _init(
  shape: tuple[int, ...], dtype: DTypeLike, *, lam_init: float, **_: Any
):
  lam = {"lam": jnp.full((1,), lam_init, dtype)}
  return {"params": lam | affine.init(shape, dtype, use_bias=False)}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  context: Array | None,
  kappa: float,
  eps: float,
  variance: str,
  **_: Any,
):
  params = variables["params"]
  affine.check("bhyt", x, params)
  given = ()
  if context is not None:
    _check_context(context, x, variance)
    given = (context,)
  bound = functools.partial(_bound, kappa, eps)
  return recompute.by_rows(bound, params, x, *given), variables["stats"]


def _bound(
  kappa: float,
  eps: float,
  params: Mapping[str, Array],
  x: Array,
  mean_square: Array | None = None,
) -> Array:
  # Widened once: a second cast would round the gradient of x twice.
  wide = moments.promote(x)
  if mean_square is None:
    mean_square = recompute.kept(moments.mean_square(wide, axes=(-1,)))
  slope = params["lam"].astype(wide.dtype) / kappa
  slope *= lax.rsqrt(mean_square.astype(wide.dtype) + eps)
  y = pointwise.tanh(slope * wide)
  return affine.apply(y, params).astype(x.dtype)


def _check_context(context: Any, x: Array, variance: str) -> None:
  if variance == "exact":
    raise errors.UserError(
      "bhyt: variance='exact' takes no context; got one. Leave it out, or use"
      " variance='handed_on'."
    )
  expected = (*x.shape[:-1], 1)
  if jnp.shape(context) != expected:
    raise errors.UserError(
      "bhyt: the context is the mean square of each token as"
      " `context_for_next` of the block's first norm returns it, of shape"
      f" {expected} for x of shape {x.shape}; got {jnp.shape(context)}."
    )


def _context_for_next(
  variables: base.Variables,
  x: Array,
  *,
  branch_gain: Array | float,
  kappa: float,
  **_: Any,
) -> Array:
  """s_2^2 of each token, (..., 1), in the dtype of statistics."""
  params = variables["params"]
  affine.check("bhyt", x, params)
  # Compiled together with `apply`, it is that one reduction.
  mean_square = moments.mean_square(x, axes=(-1,))
  gain = jnp.asarray(branch_gain, mean_square.dtype)
  by_example = (*x.shape[:1], *(1,) * (x.ndim - 1))
  if gain.shape not in ((), by_example):
    raise errors.UserError(
      "bhyt: branch_gain is one scalar a block, ||W_V W_O||_F^2 / (t d), or"
      f" one per example, of shape {by_example}; got an array of shape"
      f" {gain.shape}."
    )
  lam = params["lam"].astype(mean_square.dtype)
  return mean_square + lax.stop_gradient(gain * lam**2) / kappa**2
