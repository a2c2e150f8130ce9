"""Norms of images in float64 NumPy, image by image and channel by channel.

Written from the papers and, where a docstring names one, official code. Images
are (b, y, x, c). A forward is `(params, stats, x, *, train, mask, **options)`
to `(y, stats)`.
"""

import numpy as np


def _groups(channels, num_groups):
  """The channels of each group, as slices."""
  size = channels // num_groups
  return [slice(g * size, (g + 1) * size) for g in range(num_groups)]


def group_norm(params, stats, x, *, num_groups, eps, **_):
  """arXiv:1803.08494, equations 1 to 7."""
  y = np.empty_like(x)
  for image, out in zip(x, y, strict=True):
    for group in _groups(x.shape[-1], num_groups):
      part = image[:, :, group]
      mu = part.sum() / part.size
      variance = ((part - mu) ** 2).sum() / part.size
      out[:, :, group] = (part - mu) / np.sqrt(variance + eps)
  return y * params["scale"] + params["bias"], stats


def instance_norm(params, stats, x, *, eps, **_):
  """arXiv:1607.08022, equation 4."""
  y = np.empty_like(x)
  for image, channel in np.ndindex(x.shape[0], x.shape[3]):
    part = x[image, :, :, channel]
    mu = part.sum() / part.size
    variance = ((part - mu) ** 2).sum() / part.size
    y[image, :, :, channel] = (part - mu) / np.sqrt(variance + eps)
  return y * params.get("scale", 1) + params.get("bias", 0), stats


def frn(params, stats, x, *, eps, **_):
  """arXiv:1911.09737: no mean, and a learned threshold behind it."""
  y = np.empty_like(x)
  for image, channel in np.ndindex(x.shape[0], x.shape[3]):
    part = x[image, :, :, channel]
    nu2 = (part**2).sum() / part.size
    root = np.sqrt(nu2 + eps + abs(params.get("eps_l", 0)))
    y[image, :, :, channel] = part / root
  y = y * params["scale"] + params["bias"]
  return np.maximum(y, params.get("tau", -np.inf)), stats
