"""Attention by the Pallas kernel for TPUs that jax ships."""

import contextlib
import functools
import math
from typing import Any, cast

import jax
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
  if scale is None:
    scale = 1 / math.sqrt(q_bthk.shape[-1])
  heads_first = (x.swapaxes(1, 2) for x in (q_bthk, k_bsgk, v_bsgk))
  return cast(Array, _flash(causal, scale, *heads_first)).swapaxes(1, 2)


# Its own backward pass is traced where the caller's is.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _flash(causal: bool, scale: float, *qkv_bhtk: Array) -> Array:
  with _precision(qkv_bhtk[0]):
    return flash_attention.flash_attention(
      *qkv_bhtk, causal=causal, sm_scale=scale
    )


def _forward(causal: bool, scale: float, *qkv_bhtk: Array) -> tuple[Array, Any]:
  with _precision(qkv_bhtk[0]):
    return jax.vjp(
      functools.partial(
        flash_attention.flash_attention, causal=causal, sm_scale=scale
      ),
      *qkv_bhtk,
    )


def _backward(causal: bool, scale: float, backward: Any, do_bhtk: Array):
  del causal, scale
  with _precision(do_bhtk):
    return backward(do_bhtk)


_flash.defvjp(_forward, _backward)


def _precision(x: Array) -> contextlib.AbstractContextManager[None]:
  """Products of 16 bits are exact; asked for more, the compiler refuses."""
  if x.dtype.itemsize < 4:
    return jax.default_matmul_precision("default")
  return contextlib.nullcontext()
