"""Rotary positions: Su et al. 2021, arXiv:2104.09864.

A model makes one `table` a call and hands it to every layer: it is computed
inside the program, and no constant of it.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from normjax.nn.rotary_scaling import RotaryScaling
from normjax.types import Array


class RotaryTable(NamedTuple):
  """Cosine and sine of the angles, (t, r / 2), or (b, t, r / 2) by example."""

  cosine: Array
  sine: Array


def table(
  positions: Array,
  rotary_dim: int,
  theta: float,
  dtype: DTypeLike = jnp.float32,
  scaling: RotaryScaling | None = None,
) -> RotaryTable:
  """Cosine and sine of t / theta^(2 i / r): arXiv:2104.09864, equation 15.

  In float32 a product of position and frequency would be off by 2^-24 of
  itself: at position 4,096 by 2e-4. Here the angle is a fraction of a turn in
  integers, whose whole turns overflow, so that up to position 2^20 it is off
  by what rounding an angle in [-pi, pi) to float32 costs, 4e-7 at most.

  Args:
    positions: (t,) or (b, t), integers; negative ones turn backwards.
    rotary_dim: r, even: how many features of a head rotate.
    theta: base of the frequencies.
    dtype: of the table: float32, or float64, where angles are plain products.
    scaling: of the frequencies; None: they stay.
  """
  frequency = theta ** (-np.arange(0, rotary_dim, 2) / rotary_dim)
  if scaling is not None:
    frequency = scaling(frequency)
  if dtype == jnp.float64:
    angle = positions[..., None].astype(dtype) * frequency
  else:
    angle = (2 * math.pi / 2**32) * _phase(positions, frequency)
  return RotaryTable(jnp.cos(angle), jnp.sin(angle))


def _phase(positions: Array, frequency: np.ndarray) -> Array:
  """The angles in units of 2^-32 turns, in [-2^31, 2^31), float32.

  The frequency has 48 bits after the binary point, 32 and 16 of them, so that
  no product of the low bits needs more than 32.
  """
  fixed = np.rint(frequency / (2 * math.pi) * 2.0**48).astype(np.uint64)
  high = (fixed >> 16).astype(np.uint32)
  low = (fixed & 0xFFFF).astype(np.uint32)
  t = positions.astype(jnp.int32)[..., None]
  # As two's complement: t = 2^16 upper + lower, whatever its sign.
  upper, lower = ((t >> 16).astype(jnp.uint32), (t & 0xFFFF).astype(jnp.uint32))
  turns = t.astype(jnp.uint32) * high + upper * low + (lower * low >> 16)
  signed = jax.lax.bitcast_convert_type(turns, jnp.int32)
  return signed.astype(jnp.float32)


def rotate(x_bthk: Array, rotary: RotaryTable) -> Array:
  """Rotates the pairs (x_i, x_{i + r/2}), i < r/2, by their angles.

  In float32, or float64 for float64; the result has the dtype of x. The
  features from r on stay, as in GPT-J and GPT-NeoX.

  Args:
    x_bthk: queries, keys or features.
    rotary: from `table`; r is even and at most k.
  """
  dtype = jnp.promote_types(x_bthk.dtype, jnp.float32)
  cosine, sine = (part.astype(dtype)[..., None, :] for part in rotary)
  size = 2 * cosine.shape[-1]
  turning, staying = x_bthk[..., :size], x_bthk[..., size:]
  first, second = jnp.split(turning.astype(dtype), 2, axis=-1)
  rotated = jnp.concatenate(
    [first * cosine - second * sine, second * cosine + first * sine], axis=-1
  ).astype(x_bthk.dtype)
  if not staying.shape[-1]:
    return rotated
  return jnp.concatenate([rotated, staying], axis=-1)
