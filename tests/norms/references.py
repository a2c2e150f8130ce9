"""The norms again in float64 NumPy, written from the papers' formulas.

Each is `(params, stats, x, *, train, mask, **options)` to `(y, stats)`, and
shares nothing with normjax.
"""

import numpy as np


def batch_norm(
  params, stats, x, *, train, mask, momentum, eps, running_variance, **_
):
  """arXiv:1502.03167, algorithms 1 and 2."""
  real = x.reshape(-1, x.shape[-1])
  if mask is not None:
    real = x[np.asarray(mask, bool)].reshape(-1, x.shape[-1])
  mu, var = stats["mean"], stats["var"]
  if train:
    mu = real.sum(0) / len(real)
    var = ((real - mu) ** 2).sum(0) / len(real)
    divisor = {"unbiased": len(real) - 1, "biased": len(real)}
    kept = ((real - mu) ** 2).sum(0) / divisor[running_variance]
    stats = {
      "mean": momentum * stats["mean"] + (1 - momentum) * mu,
      "var": momentum * stats["var"] + (1 - momentum) * kept,
    }
  y = (x - mu) / np.sqrt(var + eps) * params["scale"] + params["bias"]
  return y, stats


def identity(params, stats, x, **_):
  """Nothing."""
  del params
  return x, stats
