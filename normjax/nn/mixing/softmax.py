"""Softmax attention, plain, off by one, and with a learned sink."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from normjax.nn.mixing import base
from normjax.types import Array

_TRAITS = base.MixingTraits(logits=True)


def softmax() -> base.Mixing:
  """Softmax attention.

      w_s = exp(x_s) / sum_r exp(x_r),  x_s = scale <q, k_s>

  arXiv:1706.03762, equation 1. Scores and weights are float32 (float64 for
  float64), subtracted by their maximum; the weights are cast to the dtype of v.
  """
  return base.Mixing("softmax", {}, _TRAITS, _softmax)


def softmax_off_by_one() -> base.Mixing:
  """Softmax attention that can attend to nothing.

      w_s = exp(x_s - m) / (exp(-m) + sum_r exp(x_r - m)),  m = max(0, max x)

  E. Miller, "Attention is off by one" (2023). It is `softmax` with one more
  key whose score and value are 0. The maximum includes that 0: without it
  exp(-m) overflows where all scores are very negative. Float32 as in `softmax`.
  """
  return base.Mixing("softmax_off_by_one", {}, _TRAITS, _softmax_off_by_one)


def softmax_sink() -> base.Mixing:
  """Softmax attention with a learned logit that takes weight off.

      w_s = exp(x_s - m) / (exp(b_h - m) + sum_r exp(x_r - m))
      m = max(b_h, max x)

  The sinks of gpt-oss (arXiv:2508.10925): a parameter `sink` (h,), one logit a
  head. It starts at 0, as `softmax_off_by_one` stays. `logit_cap` caps the
  scores, not the sink. Float32 as in `softmax`.
  """
  return base.Mixing("softmax_sink", {}, _TRAITS, _softmax_sink, _init_sink)


@jax.custom_jvp
def softmax_with_sink(x: Array, sink: Array) -> Array:
  """exp(x) / (exp(sink) + sum exp(x)) over the last axis.

  Args:
    x: scores.
    sink: broadcasts against x, with a last axis of 1.
  """
  return _softmax_with_sink(x, sink)[0]


def _softmax_with_sink(x: Array, sink: Array) -> tuple[Array, Array]:
  largest = jnp.maximum(jnp.max(x, axis=-1, keepdims=True), sink)
  weights = jnp.exp(x - largest)
  at_sink = jnp.exp(sink - largest)
  total = at_sink + jnp.sum(weights, axis=-1, keepdims=True)
  return weights / total, at_sink / total


@softmax_with_sink.defjvp
def _softmax_with_sink_jvp(primals, tangents):
  # Through the weights, as that of jax.nn.softmax: no exponential is kept.
  weights, at_sink = _softmax_with_sink(*primals)
  dx, dsink = tangents
  mean = jnp.sum(weights * dx, axis=-1, keepdims=True) + at_sink * dsink
  return weights, weights * (dx - mean)


def _softmax(params: Mapping[str, Array], *args: Array, **options: Any):
  del params
  return _attend(*args, sink_h=None, **options)


def _softmax_off_by_one(
  params: Mapping[str, Array], *args: Array, **options: Any
):
  del params
  return _attend(*args, sink_h=0.0, **options)


def _softmax_sink(params: Mapping[str, Array], *args: Array, **options: Any):
  return _attend(*args, sink_h=params["sink"], **options)


def _init_sink(key: Array, num_heads: int, head_dim: int):
  del key, head_dim
  return {"sink": jnp.zeros(num_heads, jnp.float32)}


def _per_head(value: float | Array, num_groups: int, dtype) -> Array:
  """A number, or one a head, against scores of axes b, g, r, t, s."""
  value = jnp.asarray(value, dtype)
  return value.reshape(num_groups, -1, 1, 1) if value.ndim else value


def _attend(
  q_bthk: Array,
  k_bsgk: Array,
  v_bsgk: Array,
  *,
  sink_h: float | Array | None,
  causal: bool,
  mask_bs: Array | None,
  scale: float | Array | None,
  logit_cap: float | None,
  rotate: base.Rotate | None,
) -> base.Mixed:
  del rotate
  b, t, h, k = q_bthk.shape
  s, g = k_bsgk.shape[1:3]
  dtype = jnp.promote_types(q_bthk.dtype, jnp.float32)
  scores = jnp.einsum(
    "btgrk,bsgk->bgrts",
    base.split_groups(q_bthk, g),
    k_bsgk,
    preferred_element_type=dtype,
  )
  scores *= _per_head(1 / math.sqrt(k) if scale is None else scale, g, dtype)
  if logit_cap is not None:
    scores = logit_cap * jnp.tanh(scores / logit_cap)
  visible = np.tril(np.ones((t, s), bool)) if causal else None
  if mask_bs is not None:
    keys = mask_bs.astype(bool)[:, None, None, None]
    visible = keys if visible is None else keys & visible
  if visible is not None:
    scores = jnp.where(visible, scores, jnp.finfo(dtype).min)
  if sink_h is None:
    weights = jax.nn.softmax(scores, axis=-1)
  else:
    weights = softmax_with_sink(scores, _per_head(sink_h, g, dtype))
  mixed = jnp.einsum("bgrts,bsgk->btgrk", weights.astype(v_bsgk.dtype), v_bsgk)
  return base.Mixed(
    mixed.reshape(b, t, h, -1), _first_token_mass(weights, mask_bs)
  )


def _first_token_mass(weights: Array, mask_bs: Array | None) -> Array:
  mass_bth = jnp.moveaxis(weights[..., 0], -1, 1)
  mass_bth = mass_bth.reshape(*mass_bth.shape[:2], -1)
  if mask_bs is None:
    return jnp.mean(mass_bth, axis=(0, 1))
  real = mask_bs.astype(mass_bth.dtype)[..., None]
  return jnp.sum(mass_bth * real, axis=(0, 1)) / jnp.maximum(jnp.sum(real), 1)
