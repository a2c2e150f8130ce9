"""Attention by the Pallas kernel for TPUs that jax ships."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
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
  sm_scale = 1 / math.sqrt(q_bthk.shape[-1]) if scale is None else scale

  def flash(*heads_first: Array) -> Array:
    return flash_attention.flash_attention(
      *heads_first, causal=causal, sm_scale=sm_scale
    )

  if q_bthk.dtype != jnp.float32:
    flash = _in_one_pass(flash)
  o_bhtk = flash(*(x.swapaxes(1, 2) for x in (q_bthk, k_bsgk, v_bsgk)))
  return o_bhtk.swapaxes(1, 2)


def _in_one_pass(function: Callable[..., Array]) -> Callable[..., Array]:
  """The function and its gradient, with products of operands as they are.

  The kernel's products take the precision of `jax.default_matmul_precision`,
  and Mosaic refuses any but the default for operands of 16 bits. The gradient
  is traced later than the call, hence the precision of its own.
  """

  @jax.custom_vjp
  def run(*arrays: Array) -> Array:
    with jax.default_matmul_precision("default"):
      return function(*arrays)

  def forward(*arrays: Array) -> tuple[Array, Any]:
    with jax.default_matmul_precision("default"):
      return jax.vjp(function, *arrays)

  def backward(pull: Any, gradient: Array) -> tuple[Array, ...]:
    with jax.default_matmul_precision("default"):
      return pull(gradient)

  run.defvjp(forward, backward)
  return run
