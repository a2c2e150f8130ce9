"""Linear attention: from feature maps to mixed values, in linear time."""

from typing import Any

import jax
import jax.numpy as jnp

from normjax.nn.mixing import base
from normjax.types import Array

# The letters of `types` as they are; f are here the features of one head, n
# counts chunks, and c and e are positions inside one.


def attend(
  f_bthf: Array,
  g_bsgf: Array,
  v_bsgk: Array,
  *,
  causal: bool,
  mask_bs: Array | None,
  rotate: base.Rotate | None,
  eps: float,
  chunk: int,
  **unused: Any,
) -> base.Mixed:
  """Mixes values by the products of features.

      y_t = (R f_t . mean_s R g_s v_s) / (f_t . mean_s g_s + eps)

  The means are over real keys, those with s <= t where causal.

  Args:
    f_bthf: non-negative features of the queries, two halves of k each.
    g_bsgf: those of the keys.
    v_bsgk: values.
    causal: whether the future is hidden.
    mask_bs: true at real keys.
    rotate: R, of (b, t, h, k), applied to each half; None: none.
    eps: added to the denominator.
    chunk: positions of one block of the causal sums.
    unused: what other methods read.

  Returns:
    (b, t, h, k) in the dtype of v; sums are in that of the features.
  """
  del unused
  b, t, h, _ = f_bthf.shape
  num_groups, k = v_bsgk.shape[2:]
  values = v_bsgk.astype(g_bsgf.dtype)
  if mask_bs is not None:
    g_bsgf = jnp.where(mask_bs.astype(bool)[..., None, None], g_bsgf, 0)
  turned_f = _rotate_halves(f_bthf, rotate)
  turned_g = _rotate_halves(g_bsgf, rotate)
  f_btgrf = base.split_groups(f_bthf, num_groups)
  turned_f = base.split_groups(turned_f, num_groups)
  count = _count(mask_bs, t, causal, g_bsgf.dtype)
  if causal:
    # The sums of the features alone are small: no chunks.
    total = jnp.cumsum(g_bsgf, axis=1) / count
    denominator = base.einsum("btgrf,btgf->btgr", f_btgrf, total)
    numerator = _causal(turned_f, turned_g, values, min(chunk, t))
    numerator /= count[..., None]
  else:
    total = jnp.sum(g_bsgf, axis=1) / count[:, 0]
    denominator = base.einsum("btgrf,bgf->btgr", f_btgrf, total)
    state = base.einsum("bsgf,bsgk->bgfk", turned_g, values)
    state /= count[:, 0, ..., None]
    numerator = base.einsum("btgrf,bgfk->btgrk", turned_f, state)
  mixed = numerator / (denominator[..., None] + eps)
  return base.Mixed(mixed.reshape(b, t, h, k).astype(v_bsgk.dtype))


def _rotate_halves(x: Array, rotate: base.Rotate | None) -> Array:
  if rotate is None:
    return x
  return jnp.concatenate(
    [rotate(half) for half in jnp.split(x, 2, axis=-1)], axis=-1
  )


def _count(mask_bs: Array | None, length: int, causal: bool, dtype) -> Array:
  """How many keys each mean has, at least 1: (b or 1, t or 1, 1, 1)."""
  if mask_bs is None:
    mask_bs = jnp.ones((1, length), bool)
  kept = mask_bs.astype(bool).astype(dtype)
  count = (
    jnp.cumsum(kept, axis=1) if causal else jnp.sum(kept, axis=1, keepdims=True)
  )
  return jnp.maximum(count, 1)[..., None, None]


def _causal(f_btgrf: Array, g_btgf: Array, v_btgk: Array, chunk: int) -> Array:
  """sum_{s <= t} (f_t . g_s) v_s: before the chunk by sums, inside by scores.

  O(t chunk + t f) products of k instead of O(t^2).
  """
  t = f_btgrf.shape[1]

  def chunks(x: Array) -> Array:
    x = jnp.pad(x, [(0, 0), (0, -t % chunk)] + [(0, 0)] * (x.ndim - 2))
    return x.reshape(x.shape[0], -1, chunk, *x.shape[2:])

  f, g, v = chunks(f_btgrf), chunks(g_btgf), chunks(v_btgk)
  states = base.einsum("bncgf,bncgk->bngfk", g, v)
  before = jnp.cumsum(states[:, :-1], axis=1)
  before = jnp.pad(before, [(0, 0), (1, 0), (0, 0), (0, 0), (0, 0)])
  mixed = base.einsum("bncgrf,bngfk->bncgrk", f, before)
  scores = jnp.tril(base.einsum("bncgrf,bnegf->bngrce", f, g))
  mixed += base.einsum("bngrce,bnegk->bncgrk", scores, v)
  return jax.lax.slice_in_dim(
    mixed.reshape(mixed.shape[0], -1, *mixed.shape[3:]), 0, t, axis=1
  )
