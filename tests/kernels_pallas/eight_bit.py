"""Blocks of 8-bit codes in NumPy: what ops with 8-bit moments are held to."""

import numpy as np

from kernels_pallas import codes


def _is_exact(absmax):
  """Whether the moment is float32: then its scales are None."""
  return absmax is None or np.isnan(absmax).all()


def _scales(absmax, width):
  return np.repeat(absmax, 256, -1)[..., :width]


def load(held, absmax, signed):
  """A moment, of codes and scales in float64."""
  if _is_exact(absmax):
    return held
  values = np.float64(codes.dynamic_map(signed))
  return values[np.int64(held)] * _scales(absmax, held.shape[-1])


def store(x, absmax, signed):
  """Codes and scales of a moment; (x,) where it had no scales."""
  if _is_exact(absmax):
    return (x,)
  x = np.float32(x)
  starts = np.arange(0, x.shape[-1], 256)
  absmax = np.maximum.reduceat(np.abs(x), starts, -1)
  scales = _scales(absmax, x.shape[-1])
  relative = x / np.where(scales == 0, 1, scales)
  values = codes.dynamic_map(signed)
  found = np.abs(relative[..., None] - values).argmin(-1)
  # A negative entry is not rounded to 0, whose code is 127.
  return np.where(signed & (x < 0) & (found == 127), 126, found), absmax
