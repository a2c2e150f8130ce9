"""Moments of all that passes a batch norm, whatever it is cut into.

A norm may be called several times in a pass, and a domain comes in batches: the
moments of the last part are not those of the whole.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax

from normjax import norms
from normjax.nn import norm_sites
from normjax.norms import affine, modes, moments, running
from normjax.types import Array, PyTree

_NAMES = ("pooled_mean", "pooled_var", "pooled_size")


def pooled(
  norm: norms.Norm, variables: norm_sites.NormVariables
) -> tuple[norms.Norm, norm_sites.NormVariables]:
  """What runs in the place of a batch norm.

  It normalises by the batch, or by blended statistics. Its `mean` and `var`
  stay; what it has measured since the start is in statistics of its own.

  Args:
    norm: a batch norm.
    variables: of it.
  """
  made = norms.Norm(
    name="pooled",
    options={"eps": norm.options["eps"]},
    traits=norms.NormTraits(
      statistics="batch", needs_train_flag=True, blends=True
    ),
    init_fn=lambda shape, dtype, **_: {},
    apply_fn=_apply,
  )
  empty = jnp.zeros_like(variables["stats"]["mean"])
  stats = {**variables["stats"], **dict.fromkeys(_NAMES, empty)}
  return made, {**variables, "stats": stats}


def found(stats: PyTree, running_variance: str) -> PyTree:
  """The tree with what was measured as `mean` and `var`, and nothing beside.

  Where nothing was, or nothing finite, those that were there are there.

  Args:
    stats: of a model whose batch norms are `pooled`.
    running_variance: "unbiased" or "biased".
  """
  if _NAMES[0] in stats:
    batch = running.Batch(*(stats[name] for name in _NAMES))
    measured = {"mean": batch.mean, "var": batch.kept(running_variance)}
    is_there = batch.size > 1
    return {k: jnp.where(is_there, v, stats[k]) for k, v in measured.items()}
  return {
    name: found(value, running_variance) if isinstance(value, dict) else value
    for name, value in stats.items()
  }


def _apply(
  variables: modes.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  eps: float,
  **_: Any,
) -> tuple[Array, dict[str, Array]]:
  stats, wide = variables["stats"], moments.promote(x)
  batch = running.measure("batch_norm", wide, mask)
  used = {"mean": batch.mean, "var": batch.variance}
  if mode.statistics == "blended":
    source = {name: stats[name] for name in used}
    unbiased = {**used, "var": batch.kept("unbiased")}
    used = running.blend(source, unbiased, mode, batch.size)
  mean, var = (used[name].astype(wide.dtype) for name in ("mean", "var"))
  y = affine.apply((wide - mean) * lax.rsqrt(var + eps), variables["params"])
  return y.astype(x.dtype), {**stats, **_pool(stats, batch)}


def _pool(stats: Any, batch: running.Batch) -> dict[str, Array]:
  """What was measured before and this batch together, of each channel."""
  mean, var, size = (stats[name] for name in _NAMES)
  new = [lax.stop_gradient(a).astype(mean.dtype) for a in batch]
  is_real = jnp.isfinite(new[0]) & jnp.isfinite(new[1])
  new_mean, new_var, count = (jnp.where(is_real, a, 0) for a in new)
  total = size + count
  share = count / jnp.maximum(total, 1)
  step = new_mean - mean
  spread = (1 - share) * var + share * new_var
  return {
    "pooled_mean": mean + share * step,
    "pooled_var": spread + share * (1 - share) * jnp.square(step),
    "pooled_size": total,
  }
