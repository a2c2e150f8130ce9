"""Rotary positions: Su et al. 2021, arXiv:2104.09864."""

import jax.numpy as jnp
import numpy as np

from normjax.types import Array


def rotary_angles(length: int, head_dim: int, theta: float) -> np.ndarray:
  """Angles t / theta^(2 i / k), (t, k / 2): arXiv:2104.09864, equation 15."""
  frequency = theta ** (-np.arange(0, head_dim, 2) / head_dim)
  return np.outer(np.arange(length), frequency)


def rotate(x_bthk: Array, angles_tk: np.ndarray) -> Array:
  """Rotates the pairs (x_i, x_{i + k/2}) by their angles.

  In float32, or float64 for float64; the result has the dtype of x.

  Args:
    x_bthk: queries, keys or features.
    angles_tk: from `rotary_angles`.
  """
  dtype = jnp.promote_types(x_bthk.dtype, jnp.float32)
  cosine = jnp.asarray(np.cos(angles_tk), dtype)[:, None, :]
  sine = jnp.asarray(np.sin(angles_tk), dtype)[:, None, :]
  first, second = jnp.split(x_bthk.astype(dtype), 2, axis=-1)
  rotated = jnp.concatenate(
    [first * cosine - second * sine, second * cosine + first * sine], axis=-1
  )
  return rotated.astype(x_bthk.dtype)
