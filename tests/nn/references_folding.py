"""The formulas of arXiv:2305.11624 in NumPy, float64: Eval mode, by hand."""

import numpy as np


def taps(x, size, stride):
  """((i, j), the pixels of padded x that kernel entry (i, j) meets)."""
  half = size // 2
  padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
  rows = -(-x.shape[1] // stride)
  columns = -(-x.shape[2] // stride)
  for i in range(size):
    for j in range(size):
      yield (
        (i, j),
        padded[
          :,
          i : i + stride * rows : stride,
          j : j + stride * columns : stride,
        ],
      )


def by_group(channels, groups):
  """Slices of each group's channels."""
  size = channels // groups
  return [slice(g * size, (g + 1) * size) for g in range(groups)]


def convolve(x, w, stride=1, groups=1):
  """Of x (b, y, x, i) with w (k, k, i / groups, o), half of k padded."""
  y = 0.0
  for (i, j), pixels in taps(x, w.shape[0], stride):
    y = y + np.concatenate(
      [
        pixels[..., inputs] @ w[i, j][:, outputs]
        for inputs, outputs in zip(
          by_group(x.shape[-1], groups),
          by_group(w.shape[-1], groups),
          strict=True,
        )
      ],
      axis=-1,
    )
  return y


def eval_mode(
  x, w, b, scale, offset, mean, var, *, dz, eps, stride=1, groups=1
):
  """Z, and the gradients of <dZ, Z> by all that is trained, and by x."""
  inverse = 1 / np.sqrt(var + eps)
  c = scale * inverse
  y = convolve(x, w, stride, groups) + b
  half = w.shape[0] // 2
  dx = np.pad(np.zeros_like(x), ((0, 0), (half, half), (half, half), (0, 0)))
  dw = np.zeros_like(w)
  for (i, j), pixels in taps(x, w.shape[0], stride):
    rows = slice(i, i + stride * dz.shape[1], stride)
    columns = slice(j, j + stride * dz.shape[2], stride)
    for inputs, outputs in zip(
      by_group(x.shape[-1], groups),
      by_group(w.shape[-1], groups),
      strict=True,
    ):
      folded = (c * w[i, j])[:, outputs]
      dx[:, rows, columns, inputs] += dz[..., outputs] @ folded.T
      dw[i, j][:, outputs] = c[outputs] * np.einsum(
        "byxi,byxo->io", pixels[..., inputs], dz[..., outputs]
      )
  total = dz.sum((0, 1, 2))
  return scale * (y - mean) * inverse + offset, {
    "x": dx[:, half : half + x.shape[1], half : half + x.shape[2]],
    "kernel": dw,
    "bias": c * total,
    "scale": (dz * (y - mean)).sum((0, 1, 2)) * inverse,
    "offset": total,
  }
