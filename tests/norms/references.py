"""The norms again in float64 NumPy, written from the papers' formulas.

Each is `(params, stats, x, *, train, mask, **options)` to `(y, stats)`, and
shares nothing with normjax.
"""

import numpy as np


def layer_norm(params, stats, x, *, eps, use_bias, use_scale, **_):
  """arXiv:1607.06450, equations 3 and 4."""
  y = np.empty_like(x)
  for index in np.ndindex(x.shape[:-1]):
    row = x[index]
    mu = sum(row) / len(row)
    sigma = np.sqrt(sum((row - mu) ** 2) / len(row) + eps)
    y[index] = (row - mu) / sigma
  y = y * params["scale"] if use_scale else y
  y = y + params["bias"] if use_bias else y
  return y, stats


def rms_norm(params, stats, x, *, eps, use_scale, **_):
  """arXiv:1910.07467, equation 4."""
  y = x / np.sqrt(
    np.einsum("...i,...i->...", x, x)[..., None] / x.shape[-1] + eps
  )
  return (y * params["scale"] if use_scale else y), stats


def dyt(params, stats, x, *, use_bias, **_):
  """arXiv:2503.10622, equation 2."""
  growth = np.exp(-2 * np.abs(params["alpha"] * x))
  tanh = np.sign(params["alpha"] * x) * (1 - growth) / (1 + growth)
  y = params["scale"] * tanh
  return (y + params["bias"] if use_bias else y), stats


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
