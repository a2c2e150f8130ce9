"""The projection of AdamP and SGDP: Heo et al. 2021, arXiv:2006.08217."""

import math
from collections.abc import Mapping

import jax.numpy as jnp

from normjax.optim import dims as dims_lib
from normjax.optim import groups, safe
from normjax.types import Array, PyTree


def remove_radial(
  w: Array,
  g: Array,
  p: Array,
  dims: dims_lib.MatrixDims,
  *,
  delta: float | Array,
  wd_ratio: float | Array,
  eps: float | Array,
) -> tuple[Array, Array]:
  """Removes the radial part of p where g is tangent to the sphere of w.

  Both views and both decisions come from four sums per channel, without a
  branch: the layer's sums are the channels' sums. Where a sum overflows
  (entries beyond 1e19 in float32), no view fires.

  Returns:
    The projected p, and the factor of the weight decay.
  """
  reduction, output = dims_lib.axes(dims)
  inputs, outputs = dims_lib.sizes(w.shape, dims)
  # Stacked, because many tiny operations cost more than they compute.
  sums = jnp.stack(
    [
      jnp.sum(product, axis=reduction, keepdims=True)
      for product in (w * w, g * g, g * w, p * w)
    ]
  )
  layer_sums = jnp.sum(sums, axis=[axis + 1 for axis in output], keepdims=True)
  finite = jnp.all(jnp.isfinite(layer_sums), axis=0)

  def view(sums, size):
    ww, gg, gw, pw = sums
    w_norm, g_norm = jnp.sqrt(ww), jnp.sqrt(gg)
    cosine = jnp.abs(gw) / (jnp.maximum(w_norm, eps) * jnp.maximum(g_norm, eps))
    # One tensor, one decision: the worst channel's.
    worst = jnp.max(cosine, axis=output, keepdims=True)
    fires = finite & (worst < delta / math.sqrt(size))
    scale = w_norm + eps
    return fires, safe.divide(safe.divide(pw, scale), scale)

  channel_fires, channel = view(sums, inputs)
  layer_fires, layer = view(layer_sums, inputs * outputs)
  radial = jnp.where(channel_fires, channel, jnp.where(layer_fires, layer, 0))
  ratio = jnp.where(channel_fires | layer_fires, wd_ratio, 1.0)
  return p - radial * w, ratio.astype(p.dtype)


def routes(
  method: str, params: PyTree, dims: dims_lib.DimsSpec
) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  entries = dims_lib.resolve(dims, params, dims_lib.channel_dims)
  return {
    path: f"{method} (no projection)"
    if entry is None
    else method + dims_lib.read(entry)
    for (path, _), entry in zip(groups.leaves(params), entries, strict=True)
  }
