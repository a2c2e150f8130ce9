"""Attention by the Pallas kernel for TPUs that jax ships."""

import math

from jax import Array
from jax.experimental.pallas.ops.tpu import flash_attention


def attention(
  q_bthk: Array,
  k_bsgk: Array,
  v_bsgk: Array,
  causal: bool,
  scale: float | None = None,
) -> Array:
  """See `kernels_pallas.attention.attention`; the kernel wants heads first."""
  o_bhtk = flash_attention.flash_attention(
    *(x.swapaxes(1, 2) for x in (q_bthk, k_bsgk, v_bsgk)),
    causal=causal,
    sm_scale=1 / math.sqrt(q_bthk.shape[-1]) if scale is None else scale,
  )
  return o_bhtk.swapaxes(1, 2)
