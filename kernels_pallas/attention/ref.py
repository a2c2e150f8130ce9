"""Softmax attention in plain operations.

Letters of shapes: b batch, t query and s key positions, h query heads, g key
heads, each serving a run of h / g query heads, k features of a head.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from jax import Array

# Of the queries, where causal: each run sees its own past only.
_MOST_BLOCKS, _LEAST_BLOCK = 4, 128


def attention(
  q_bthk: Array,
  k_bsgk: Array,
  v_bsgk: Array,
  causal: bool,
  scale: float | None = None,
) -> Array:
  """See `kernels_pallas.attention.attention`."""
  return attend(q_bthk, k_bsgk, v_bsgk, causal=causal, scale=scale)[0]


@jax.custom_jvp
def softmax_and_total(x: Array) -> tuple[Array, Array]:
  """Softmax over the last axis, and log sum exp of it, an axis of 1.

  As jax.nn.softmax with jax.nn.logsumexp, in one pass over x.
  """
  largest = jnp.max(x, axis=-1, keepdims=True)
  weights = jnp.exp(x - largest)
  total = jnp.sum(weights, axis=-1, keepdims=True)
  return weights / total, largest + jnp.log(total)


@softmax_and_total.defjvp
def _softmax_and_total_jvp(primals, tangents):
  # Through the weights: the exponentials are not kept for the backward.
  weights, total = softmax_and_total(*primals)
  mean = jnp.sum(weights * tangents[0], axis=-1, keepdims=True)
  return (weights, total), (weights * (tangents[0] - mean), mean)


def _per_head(value: float | Array, num_groups: int, dtype) -> Array:
  """A number, or one per head, against scores of axes b, g, r, t, s."""
  value = jnp.asarray(value, dtype)
  return value.reshape(num_groups, -1, 1, 1) if value.ndim else value


def attend(
  q_bthk: Array,
  k_bsgk: Array,
  v_bsgk: Array,
  *,
  causal: bool,
  mask_bs: Array | None = None,
  sink_h: float | Array | None = None,
  scale: float | Array | None = None,
  logit_cap: float | None = None,
) -> tuple[Array, Array]:
  """Attention, and how much of it goes to the first position.

  Args:
    q_bthk: queries.
    k_bsgk: keys.
    v_bsgk: values.
    causal: whether position t sees only s <= t.
    mask_bs: true at real keys; what it hides must be finite.
    sink_h: the logit of one more key, whose value is 0; None: there is none.
    scale: of the scores, a number or one per head; None: 1 / sqrt(k).
    logit_cap: c of c tanh(score / c), before masks; None: no cap.

  Returns:
    The mixed values, (b, t, h, k) in the dtype of v, and the mean weight on the
    first real position, over examples and real queries, (h,).
  """
  t = q_bthk.shape[1]
  real_bs = None if mask_bs is None else mask_bs.astype(bool)
  first_b = None if real_bs is None else jnp.argmax(real_bs, axis=1)
  values, masses = [], []
  for start, stop in _blocks(t) if causal else [(0, t)]:
    keys = min(stop, k_bsgk.shape[1]) if causal else k_bsgk.shape[1]
    # In the program, not a constant of it: t^2 / 2 bytes per layer.
    visible = jnp.tri(stop - start, keys, start, bool) if causal else None
    if real_bs is not None:
      real = real_bs[:, None, None, None, :keys]
      visible = real if visible is None else real & visible
    block, mass_bth = _attend_block(
      q_bthk[:, start:stop],
      k_bsgk[:, :keys],
      v_bsgk[:, :keys],
      visible,
      first_b=first_b,
      sink_h=sink_h,
      scale=scale,
      logit_cap=logit_cap,
    )
    values.append(block)
    masses.append(mass_bth)
  mass_bth = jnp.concatenate(masses, axis=1)
  return jnp.concatenate(values, axis=1), _over_tokens(mass_bth, mask_bs)


def _blocks(length: int) -> list[tuple[int, int]]:
  """Runs of queries: with n, (n - 1) / 2n of the scores is never computed."""
  count = max(1, min(_MOST_BLOCKS, length // _LEAST_BLOCK))
  bounds = [length * i // count for i in range(count + 1)]
  return list(itertools.pairwise(bounds))


def _attend_block(
  q_bthk: Array,
  k_bsgk: Array,
  v_bsgk: Array,
  visible: Array | None,
  *,
  first_b: Array | None,
  sink_h: float | Array | None,
  scale: float | Array | None,
  logit_cap: float | None,
) -> tuple[Array, Array]:
  """The values, and the weights on position `first_b`, (b, t, h)."""
  b, t, h, k = q_bthk.shape
  s, g = k_bsgk.shape[1:3]
  dtype = jnp.promote_types(q_bthk.dtype, jnp.float32)
  # m is the h / g query heads and the positions as one axis: XLA multiplies
  # matrices of more axes slowly on a CPU.
  q_bgmk = q_bthk.reshape(b, t, g, h // g, k).transpose(0, 2, 3, 1, 4)
  scores = jnp.einsum(
    "bgmk,bsgk->bgms",
    q_bgmk.reshape(b, g, h // g * t, k),
    k_bsgk,
    preferred_element_type=dtype,
  ).reshape(b, g, h // g, t, s)
  scores *= _per_head(1 / math.sqrt(k) if scale is None else scale, g, dtype)
  if logit_cap is not None:
    scores = logit_cap * jnp.tanh(scores / logit_cap)
  if visible is not None:
    scores = jnp.where(visible, scores, jnp.finfo(dtype).min)
  weights, total = softmax_and_total(scores)
  mixed = jnp.einsum(
    "bgms,bsgk->bgmk",
    weights.astype(v_bsgk.dtype).reshape(b, g, h // g * t, s),
    v_bsgk,
  ).reshape(b, g, h // g, t, v_bsgk.shape[-1])
  if first_b is None:
    mass = weights[..., :1]
  else:
    # Beyond the keys of this block there is no real query.
    index = jnp.minimum(first_b, s - 1).reshape(b, 1, 1, 1, 1)
    mass = jnp.take_along_axis(weights, index, axis=-1)
  if sink_h is not None:
    # The share of what is not the sink: one number per query, off the scores.
    share = jax.nn.sigmoid(total - _per_head(sink_h, g, dtype))
    mixed, mass = (mixed * share).astype(mixed.dtype), mass * share

  def by_position(x_bgrtk: Array) -> Array:
    return x_bgrtk.transpose(0, 3, 1, 2, 4).reshape(b, t, h, x_bgrtk.shape[-1])

  return by_position(mixed), by_position(mass)[..., 0]


def _over_tokens(mass_bth: Array, mask_bs: Array | None) -> Array:
  """The mean over examples and real positions, (h,)."""
  if mask_bs is None:
    return jnp.mean(mass_bth, axis=(0, 1))
  real = mask_bs.astype(mass_bth.dtype)[..., None]
  return jnp.sum(mass_bth * real, axis=(0, 1)) / jnp.maximum(jnp.sum(real), 1)
