"""Continual normalization: Pham, Liu, Hoi 2022, arXiv:2203.16102.

As github.com/lvyilin/AdaB2N (MIT licence) has it.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import lax

from normjax import validate
from normjax.norms import affine, base, batch_norm, channel_groups, modes
from normjax.types import Array


def cn(
  num_groups: int = 32,
  momentum: float = 0.9,
  eps: float = 1e-5,
  use_affine: bool = True,
) -> base.Norm:
  """Continual normalization: a group norm and then a batch norm.

      h = (x - mean_G) / sqrt(var_G + eps)
      y = (h - mean_B(h)) / sqrt(var_B(h) + eps) * scale + bias
      running <- momentum * running + (1 - momentum) * batch

  arXiv:2203.16102. The group norm has no gain and no offset; the batch norm is
  `batch_norm` with the unbiased running variance, whose modes these are. Of an
  image or a sequence; what a mask hides is in no statistic.

  Args:
    num_groups: >= 1, divides the channels.
    momentum: weighs the old running value, in [0, 1].
    eps: inside both square roots, > 0.
    use_affine: whether there are `scale` and `bias`. False is how its authors,
      and the comparison in the AdaB2N repository, have run it.

  Raises:
    UserError: an option out of range; groups that do not divide the channels;
      from `apply`, an x that is neither images nor sequences, or a training
      batch of one value per channel.
  """
  name = "cn"
  validate.count(name, "num_groups", num_groups, least=1)
  validate.number(name, "momentum", momentum, least=0, most=1)
  validate.number(name, "eps", eps, above=0)
  validate.flags(name, use_affine=use_affine)
  return base.Norm(
    name=name,
    options={
      "num_groups": num_groups,
      "momentum": momentum,
      "eps": eps,
      "use_affine": use_affine,
    },
    traits=base.NormTraits(
      statistics="batch",
      scale_invariant=True,
      shift_invariant=True,
      needs_train_flag=True,
      blends=True,
      mixes_positions=True,
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, num_groups: int, use_affine: bool, **_: Any):
  base.check_groups("cn", num_groups, shape[-1])
  made = batch_norm.batch_norm().init(shape, dtype)
  return made if use_affine else {**made, "params": {}}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  num_groups: int,
  momentum: float,
  eps: float,
  **_: Any,
):
  base.check_positions("cn", x)
  base.check_groups("cn", num_groups, x.shape[-1])
  stats = variables["stats"]
  base.check_variables("cn", variables, "stats", ("mean", "var"))
  base.check_features("cn", x, stats["mean"].size)
  params: Mapping[str, Array] = variables["params"]
  if not params:
    params = affine.init(x.shape[-1:], jnp.float32)
  wide = channel_groups.as_images(x).astype(
    jnp.promote_types(x.dtype, jnp.float32)
  )
  h = channel_groups.standardize(wide, {}, num_groups, eps, mask)
  fixed = lax.stop_gradient(wide)
  variance = channel_groups.mean_and_variance(fixed, num_groups, mask)[1]
  second = batch_norm.batch_norm(momentum, eps)
  y, moved = second.apply_fn(
    {"params": params, "stats": stats, "grad_stats": {}},
    h,
    mode=mode,
    mask=mask,
    context=None,
    **second.options,
  )
  # Of squares that overflow the group norm makes zeros, which say nothing.
  is_real = jnp.all(jnp.isfinite(variance))
  stats = {
    name: jnp.where(is_real, value, stats[name])
    for name, value in moved.items()
  }
  return y.reshape(x.shape).astype(x.dtype), stats
