"""The plain norms again in float64 NumPy: options, lengths, pointwise maps.

As in `references`: `(params, stats, x, *, train, mask, **options)` to
`(y, stats)`, sharing nothing with normjax.
"""

import math

import numpy as np


def divided(x, square, eps, eps_placement):
  """X over a root of `square`."""
  if eps_placement == "inside":
    return x / np.sqrt(square + eps)
  return x / (np.sqrt(square) + eps)


def affine(params, y, zero_centered=False):
  """A gain and an offset, each if it is there."""
  if "scale" in params:
    y = y * (params["scale"] + (1 if zero_centered else 0))
  if "direction" in params:
    v = params["direction"]
    y = y * params["magnitude"] * v / math.hypot(*v)
  return y + params["bias"] if "bias" in params else y


def layer_norm(params, stats, x, *, eps, zero_centered, eps_placement, **_):
  """arXiv:1607.06450, equations 3 and 4, with options; always two passes."""
  y = np.empty_like(x)
  for index in np.ndindex(x.shape[:-1]):
    row = x[index]
    row = row - sum(row) / len(row)
    y[index] = divided(row, sum(row**2) / len(row), eps, eps_placement)
  return affine(params, y, zero_centered), stats


def rms_norm(
  params, stats, x, *, eps, zero_centered, eps_placement, partial, **_
):
  """arXiv:1910.07467, equation 4, with options; `partial` is its pRMSNorm."""
  k = math.ceil(partial * x.shape[-1])
  first = x[..., :k]
  square = np.einsum("...i,...i->...", first, first)[..., None] / k
  y = divided(x, square, eps, eps_placement)
  return affine(params, y, zero_centered), stats


def crms_norm(params, stats, x, *, eps, **_):
  """arXiv:2305.14858: RMS normalization of the vector with its last feature."""
  whole = np.concatenate([x, -x.sum(-1, keepdims=True)], axis=-1)
  square = (whole**2).mean(-1, keepdims=True)
  return affine(params, (whole / np.sqrt(square + eps))[..., :-1]), stats


def scale_norm(params, stats, x, *, eps, **_):
  """arXiv:1910.05895, with the floor of the authors' code."""
  length = np.linalg.norm(x, axis=-1, keepdims=True)
  return params["scale"] * x / np.clip(length, eps, None), stats


def l2_norm(params, stats, x, *, eps, **_):
  """arXiv:2410.01131 with eps = 0."""
  square = np.einsum("...i,...i->...", x, x)[..., None]
  return affine(params, x / np.sqrt(square + eps)), stats


def logistic(u):
  """1 / (1 + exp(-u))."""
  return 1 / (1 + np.exp(-u))


def satursin(u):
  """Sine up to its first maximum, then 1."""
  return np.where(np.abs(u) < np.pi / 2, np.sin(u), np.sign(u))


MAPS = {
  # By the exponential of a negative number: no overflow, no cancellation.
  "tanh": lambda u: (
    np.sign(u) * -np.expm1(-2 * abs(u)) / (1 + np.exp(-2 * abs(u)))
  ),
  "erf": np.vectorize(math.erf),
  "hardtanh": lambda u: np.maximum(-1, np.minimum(1, u)),
  "sigmoid": logistic,
  "isru": lambda u: u / np.sqrt(u**2 + 1),
  "smoothsign": lambda u: u / (1 + abs(u)),
  "arctan": lambda u: np.arctan2(u, np.ones_like(u)) * 2 / np.pi,
  "satursin": satursin,
}


def dyt(params, stats, x, *, function="tanh", **_):
  """arXiv:2503.10622, equation 2; maps of arXiv:2512.10938's code."""
  inner = params["alpha"] * x + params.get("shift", 0)
  return affine(params, MAPS[function](inner)), stats


derf = dyt  # The same but for the map, which its options name.
