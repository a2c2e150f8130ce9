"""Covariances from sums that batches, shards and devices add up."""

import jax
import jax.numpy as jnp
import numpy as np

from normjax import errors
from normjax.spectra import matrices
from normjax.types import Array


def pooled(h_nd: Array, weight_n: Array) -> Array:
  """Sums from which a covariance is made: sum_i w_i [h_i 1]^T [h_i 1].

  They add up over batches and devices. Summed in float32, without TF32: a sum
  over n tokens is good to about sqrt(n) 2^-24 of itself. What is centred
  later loses (mean / standard deviation)^2 of that, below 1e-4 where a mean is
  less than 10 standard deviations.

  Args:
    h_nd: activations of n tokens.
    weight_n: 0 for padding, which counts for nothing, NaN or not.

  Returns:
    (d + 1, d + 1), float32: in the last row and column the sum of the
    activations, at its end the number of tokens.

  Raises:
    UserError: activations that are not (n, d), weights that are not (n,).
  """
  if h_nd.ndim != 2:
    raise errors.UserError(
      f"activations of shape {h_nd.shape}; needed: (tokens, features), as by"
      " h.reshape(-1, h.shape[-1])."
    )
  if weight_n.shape != h_nd.shape[:1]:
    raise errors.UserError(
      f"weights of shape {weight_n.shape} for activations of shape"
      f" {h_nd.shape}; needed: {h_nd.shape[:1]}, one per token."
    )
  h_nd = h_nd.astype(jnp.float32)
  weight_n = weight_n.astype(jnp.float32)
  ones_n1 = jnp.ones((len(h_nd), 1), jnp.float32)
  h_nd = jnp.where(weight_n[:, None] > 0, h_nd, 0.0)
  h_ne = jnp.concatenate([h_nd, ones_n1], axis=1)
  return jnp.matmul(
    (h_ne * weight_n[:, None]).T, h_ne, precision=jax.lax.Precision.HIGHEST
  )


def covariance(sums_ee: np.ndarray) -> np.ndarray:
  """(H - mean)^T (H - mean) / (n - 1), in float64.

  Args:
    sums_ee: of `pooled`, added up.

  Raises:
    UserError: of less than two tokens, or of what `pooled` does not give.
  """
  sums_ee = matrices.symmetric("sums of `pooled`", sums_ee)
  n = float(sums_ee[-1, -1])
  if not n > 1:
    raise errors.UserError(
      f"a covariance of {n:g} tokens; needed: two or more."
    )
  mean_d = sums_ee[-1, :-1] / n
  return (sums_ee[:-1, :-1] - n * np.outer(mean_d, mean_d)) / (n - 1)
