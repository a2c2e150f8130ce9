"""Attention by cuDNN's flash attention, as jax.nn offers it."""

import jax
from jax import Array


def attention(
  q_bthk: Array,
  k_bsgk: Array,
  v_bsgk: Array,
  causal: bool,
  scale: float | None = None,
) -> Array:
  """See `kernels_pallas.attention.attention`.

  jax.nn takes plain operations unless it is told, and says so nowhere.
  """
  return jax.nn.dot_product_attention(
    q_bthk,
    k_bsgk,
    v_bsgk,
    scale=scale,
    is_causal=causal,
    implementation="cudnn",
  )
