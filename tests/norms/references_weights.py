"""Norms of weights in float64 NumPy, from their papers and official codes.

Each takes variables, an (…, o) kernel, whether it trains, and the options by
name; it returns the kernel and the statistics.
"""

import numpy as np


def _by_filter(function, kernel, *per_output):
  """Stacks function(weights of an output, …) over the outputs."""
  filters = [
    function(kernel[..., o], *(values[o] for values in per_output))
    for o in range(kernel.shape[-1])
  ]
  return np.stack(filters, axis=-1)


def weight_standardization(variables, kernel, train, *, variant, eps):
  """The README of WeightStandardization, BCN's layers.py, timm's StdConv2d."""
  del train
  ddof = 1 if variant.startswith("unbiased") else 0
  if variant.endswith("std"):

    def one(w):
      return (w - np.mean(w)) / (np.std(w, ddof=ddof) + eps)

  else:

    def one(w):
      return (w - np.mean(w)) / (np.var(w, ddof=ddof) + eps) ** 0.5

  return _by_filter(one, kernel), variables["stats"]


def scaled_weight_standardization(
  variables, kernel, train, *, variant, eps, factor
):
  """WSConv2D of nfnets/base.py; timm's ScaledStdConv2d."""
  del train

  def floor(w, gain):
    scale = factor * gain / np.sqrt(max(np.var(w) * w.size, eps))
    return w * scale - np.mean(w) * scale

  def added(w, gain):
    # A batch norm of one channel whose weight is gain gamma / sqrt(fan_in).
    normalized = (w - np.mean(w)) / np.sqrt(np.var(w) + eps)
    return normalized * (gain * (factor * w.size**-0.5))

  one = {"floor": floor, "added": added}[variant]
  gain = variables["params"]["gain"]
  return _by_filter(one, kernel, gain), variables["stats"]


def weight_norm(variables, kernel, train):
  """arXiv:1602.07868, equation 2."""
  del train

  def one(v, g):
    return g / np.linalg.norm(v.reshape(-1)) * v

  return _by_filter(one, kernel, variables["params"]["gain"]), {}


def spectral_norm(variables, kernel, train, *, num_iterations, eps, **_):
  """arXiv:1802.05957, algorithm 1, on PyTorch's (o, i, y, x)."""

  def to_torch(kernel):
    return np.moveaxis(kernel, (-1, -2), (0, 1))

  weight = to_torch(kernel)
  matrix = weight.reshape(len(weight), -1)
  u = variables["stats"]["u"]
  # v has the order of the kernel's other axes.
  v = variables["stats"]["v"].reshape(*kernel.shape[:-1], 1)
  v = to_torch(v).reshape(-1)
  if train:
    for _ in range(num_iterations):
      v = matrix.T @ u
      v = v / max(np.linalg.norm(v), eps)
      u = matrix @ v
      u = u / max(np.linalg.norm(u), eps)
  sigma = u @ (matrix @ v)
  v = v.reshape(1, *weight.shape[1:])
  v = np.moveaxis(v, (0, 1), (-1, -2)).reshape(-1)
  return kernel / sigma, {"u": u, "v": v}
