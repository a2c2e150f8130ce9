"""A layer norm on its way out: arXiv:2507.02559, section 3.

Official code, against which the equations were held: train.py of
github.com/submarat/removing-layer-norm (583a9e6; its README says MIT, a licence
file is not there).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from normjax import validate
from normjax.norms import affine, base, modes, moments
from normjax.types import Array

NAME = "fake_layer_norm"
NEVER = 2**30  # A training step that does not come.
# The entries of `removed_at`, and those of `special_until`.
QUERY_KEY, VALUE = 0, 1
END, FIRST = 0, 1


class Site(NamedTuple):
  """The `context` of a call.

  Attributes:
    path: which entry of `removed_at` counts: QUERY_KEY or VALUE where a norm
      feeds queries and keys apart from values, which have the same deviations.
    end_bt: true where a token is the end token; None: there is none.
  """

  path: int = QUERY_KEY
  end_bt: Array | None = None


def fake_layer_norm(
  eps: float = 1e-5,
  momentum: float = 0.9,
  use_bias: bool = True,
  use_scale: bool = True,
  centred: bool = True,
) -> base.Norm:
  """A layer norm that divides by a constant from a training step on.

      y = (x - mean(x)) / sqrt(var(x) + eps) * scale + bias    before
      y = (x - mean(x)) / s * scale + bias                     after: "fake"

  s is an exponential average, over training steps, of the mean over tokens of
  sqrt(var(x) + eps); it stands still once the norm is fake, for values too. The
  mean of x is still subtracted: what is left is linear. All that says when is
  an array among the statistics, so that one program serves a whole schedule:

  - `step`, counted by training calls; evaluation moves nothing.
  - `removed_at` (2,), the first step at which the norm is fake, for queries and
    keys and for values; other norms have it twice.
  - `std` and `first_std`: of the first token of each sequence (x of three axes,
    under a mask the first real one) the deviation is far from that of others,
    and is kept apart. End tokens enter neither.
  - `special_until` (2,): until this step end tokens, and first tokens, are
    divided by `first_std`.

  `convert.remove_norms` sets them. Not in the table of norms: alone, without
  another model's weights and a schedule, it never goes.

  Unlike the official code this one counts an average's steps, not its forward
  calls (there several per micro-batch, evaluation's included); the deviation of
  first tokens belongs to positions (there to the first *feature*, unless a
  switch is set); without a bias the fake form keeps its mean and s (there it
  is x * scale).

  Args:
    eps: inside the square root, > 0.
    momentum: weighs the old average, in [0, 1]; the first step's is taken as
      it is.
    use_bias: whether there is a `bias`.
    use_scale: whether there is a `scale`.
    centred: False: an RMS norm, sqrt(mean(x^2) + eps), which the paper does
      not have.

  Raises:
    UserError: an option out of range.
  """
  validate.number(NAME, "eps", eps, above=0)
  validate.number(NAME, "momentum", momentum, least=0, most=1)
  validate.flags(NAME, use_bias=use_bias, use_scale=use_scale, centred=centred)
  return base.Norm(
    name=NAME,
    options={
      "eps": eps,
      "momentum": momentum,
      "use_bias": use_bias,
      "use_scale": use_scale,
      "centred": centred,
    },
    # y never depends on what else is in the batch, and is the same in training
    # and in evaluation.
    traits=base.NormTraits(statistics="per_example"),
    init_fn=_init,
    apply_fn=_apply,
    is_linear_fn=_is_linear,
  )


def _init(shape, dtype, *, use_bias: bool, use_scale: bool, **_: Any):
  one = jnp.ones((), jnp.float32)
  return {
    "params": affine.init(shape, dtype, use_scale, use_bias),
    "stats": {
      "step": jnp.zeros((), jnp.int32),
      "std": one,
      "first_std": one,
      "removed_at": jnp.full((2,), NEVER, jnp.int32),
      "special_until": jnp.zeros((2,), jnp.int32),
    },
  }


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  context: Site | None,
  eps: float,
  momentum: float,
  centred: bool,
  **_: Any,
):
  del mode  # `Norm.apply` keeps the statistics where they are not to move.
  stats, params = variables["stats"], variables["params"]
  base.check_variables(NAME, variables, "stats", ("step", "std", "removed_at"))
  affine.check(NAME, x, params)
  site = Site() if context is None else context
  wide = moments.promote(x)
  centre, squares = centre_and_squares(wide, centred)
  first, end, real = tokens(x, mask, site.end_bt)
  step = stats["step"]
  is_special = (end & (step < stats["special_until"][END])) | (
    first & (step < stats["special_until"][FIRST])
  )
  constant = jnp.where(is_special, stats["first_std"], stats["std"])
  is_fake = step >= stats["removed_at"][site.path]
  factor = jnp.where(
    is_fake, 1 / constant.astype(wide.dtype), lax.rsqrt(squares + eps)
  )
  y = affine.apply(centre * factor, params).astype(x.dtype)
  std = jnp.sqrt(lax.stop_gradient(squares) + eps)
  return y, _advance(stats, std, (first, end, real), momentum)


def centre_and_squares(x: Array, centred: bool) -> tuple[Array, Array]:
  """X less its mean, and its variance, (…, 1); or x and its mean square."""
  if not centred:
    return x, moments.mean_square(x, (-1,))
  mean, variance = moments.mean_and_variance(x, (-1,))
  return x - mean, variance


def tokens(
  x: Array, mask: Array | None, end_bt: Array | None
) -> tuple[Array, Array, Array]:
  """Where first tokens, end tokens and real ones are; to be broadcast.

  Args:
    x: (b, t, d); of other arrays no token is a first one.
    mask: as for `Norm.apply`.
    end_bt: true at end tokens, or None.
  """
  first = end = jnp.zeros((1,) * x.ndim, bool)
  real = jnp.ones((1,) * x.ndim, bool)
  if mask is not None:
    real = moments.broadcast_mask(mask, x)
  if x.ndim == 3:
    real = jnp.broadcast_to(real, (real.shape[0], *x.shape[1:2], 1))
    first = real & (jnp.cumsum(real, axis=1) == 1)
  if end_bt is not None:
    end = moments.broadcast_mask(end_bt, x)
  return first, end, real


def _advance(
  stats: Mapping[str, Array],
  std: Array,
  where: tuple[Array, Array, Array],
  momentum: float,
) -> dict[str, Array]:
  """The statistics after a training step; `where` is what `tokens` gives."""
  first, end, real = where
  step = stats["step"]
  weight = jnp.where(step == 0, 0.0, momentum)
  is_frozen = step >= jnp.max(stats["removed_at"])

  def moved(name: str, chosen: Array) -> Array:
    old = stats[name]
    chosen = jnp.broadcast_to(chosen & real, std.shape)
    count = jnp.sum(chosen)
    found = jnp.sum(jnp.where(chosen, std, 0)) / jnp.maximum(count, 1)
    new = (weight * old + (1 - weight) * found).astype(old.dtype)
    stays = is_frozen | (count == 0) | ~jnp.isfinite(found)
    return jnp.where(stays, old, new)

  return {
    **stats,
    "step": step + 1,
    "std": moved("std", ~(first | end)),
    "first_std": moved("first_std", first),
  }


def _is_linear(variables: base.Variables) -> Array:
  """Whether the schedule is over, that of first and end tokens too."""
  stats = variables["stats"]
  last = jnp.concatenate([stats["removed_at"], stats["special_until"]])
  return stats["step"] >= jnp.max(last)
