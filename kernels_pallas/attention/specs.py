"""What the op is tried on."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from kernels_pallas import contract
from kernels_pallas.specs import ArgumentSpec


def _spec(
  name: str,
  shape: tuple[int, int, int, int],
  dtype: DTypeLike,
  *,
  causal: bool = True,
  key_heads: int | None = None,
) -> ArgumentSpec:
  b, t, h, k = shape
  keys = (b, t, key_heads or h, k)
  shapes = tuple(jax.ShapeDtypeStruct(s, dtype) for s in (shape, keys, keys))
  query_bytes, *key_bytes = (
    math.prod(s.shape) * s.dtype.itemsize for s in shapes
  )
  # Forward: q, k, v in; o and a float32 per row of scores out.
  forward = 2 * query_bytes + sum(key_bytes) + 4 * b * t * h
  # Backward: those and do in; dq, dk, dv out.
  backward = forward + query_bytes + query_bytes + sum(key_bytes)
  return ArgumentSpec(
    name,
    shapes,
    ideal_bytes=forward,
    options={"causal": causal, "scale": None},
    differentiated=(0, 1, 2),
    ideal_backward_bytes=backward,
  )


def _draw(spec: ArgumentSpec, seed: int) -> tuple[Any, ...]:
  """Normal values: scores near 1, weights that differ."""
  rng = np.random.default_rng(seed)
  return tuple(
    jnp.asarray(rng.normal(size=s.shape), s.dtype) for s in spec.shapes if s
  )


def _bounds(spec: ArgumentSpec, shape: tuple[int, ...]) -> tuple[int, float]:
  """Sums over features, keys and queries; of 16 bits, roundings within.

  Weights, their gradient and that of the scores are rounded to 16 bits before
  they are multiplied, each by at most 2^15 units of float32 (bfloat16).
  """
  del shape
  query: Any = spec.shapes[0]
  key: Any = spec.shapes[1]
  _, t, h, k = query.shape
  terms = k + 3 * t * h // key.shape[2]
  if query.dtype.itemsize < 4:
    terms += 3 * 2**15
  # A weighted mean of normal values, and gradients near it.
  return terms, 4.0


_single, _half = jnp.float32, jnp.bfloat16
CONTRACT = contract.Contract(
  specs=(
    _spec("causal", (2, 6, 2, 8), _single),
    _spec("grouped", (1, 5, 4, 8), _single, causal=False, key_heads=2),
    _spec("blocks_of_queries", (1, 260, 1, 8), _single),
    _spec("causal_bfloat16", (2, 128, 2, 64), _half),
  ),
  more=(
    _spec("grouped_bfloat16", (2, 256, 4, 64), _half, key_heads=2),
    _spec("bidirectional_bfloat16", (2, 196, 3, 64), _half, causal=False),
    _spec("wide_heads_bfloat16", (1, 1024, 2, 128), _half),
    _spec("wide_heads", (1, 256, 2, 128), _single),
  ),
  draw=_draw,
  bounds=_bounds,
)
SPECS = (
  _spec("llama_60m 32x256", (32, 256, 8, 64), _half),
  _spec("gpt2_small 8x1024", (8, 1024, 12, 64), _half),
  _spec("vit_small 128x197", (128, 197, 6, 64), _half, causal=False),
)
