"""Blurs; lengths are pixels, at every size of image."""

import numpy as np

from normjax.data.corruptions import filters
from normjax.data.corruptions.kind import Draws, Kind


def gaussian_blur(
  images_byxc: np.ndarray, draws: Draws, sigma: float
) -> np.ndarray:
  """A Gaussian of `sigma`, cut at 4 sigma."""
  del draws
  return filters.gaussian(images_byxc, sigma)


def defocus_blur(
  images_byxc: np.ndarray, draws: Draws, radius: float, alias_sigma: float
) -> np.ndarray:
  """A disk whose edge is smoothed."""
  del draws
  return filters.correlate(images_byxc, filters.disk(radius, alias_sigma))


def frosted_glass_blur(
  images_byxc: np.ndarray,
  draws: Draws,
  sigma: float,
  reach: int,
  rounds: int,
) -> np.ndarray:
  """Blurred, pixels replaced by near ones, and blurred again.

  From the last row and column to the first, a pixel becomes the one that lies
  0 … reach - 1, or -reach, pixels off. The official code writes a swap, but
  its arrays are views, so that one pixel is copied over the other; on three
  channels this is what made CIFAR-10-C, and one channel is treated alike.
  """
  b, y, x, _ = images_byxc.shape
  # Truncated to 8 bits, as in the official code.
  blurred = filters.gaussian(images_byxc, sigma) * 255
  pixels = np.clip(blurred, 0, 255).astype(np.uint8)
  which = np.arange(b)
  rows = range(y - reach, reach, -1)
  columns = range(x - reach, reach, -1)
  shifts = draws.integers(
    -reach, reach, (rounds, max(len(rows), 0), max(len(columns), 0), 2)
  )
  for r in range(rounds):
    for i, row in enumerate(rows):
      for j, column in enumerate(columns):
        right, down = shifts[:, r, i, j].T
        pixels[:, row, column] = pixels[which, row + down, column + right]
  return filters.gaussian(pixels / 255, sigma)


def motion_blur(
  images_byxc: np.ndarray, draws: Draws, radius: int, sigma: float
) -> np.ndarray:
  """ImageMagick's, along an angle between -45 and 45 degrees, to 8 bits."""
  angle_b = draws.uniform(-45, 45)
  return filters.motion(images_byxc, radius, sigma, angle_b)


def zoom_blur(images_byxc: np.ndarray, draws: Draws, stop: float) -> np.ndarray:
  """The mean of the image and its zooms by 1, 1.01, … below `stop`.

  At severities 1 and 2 rounding brings `stop` itself in, as it does in the
  official code.
  """
  del draws
  factors = np.arange(1, stop, 0.01)
  zooms = sum(filters.zoom(images_byxc, float(f)) for f in factors)
  return (images_byxc + zooms) / (len(factors) + 1)


KINDS = (
  Kind(
    "defocus_blur",
    defocus_blur,
    ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
  ),
  Kind(
    "frosted_glass_blur",
    frosted_glass_blur,
    ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
  ),
  Kind(
    "motion_blur",
    motion_blur,
    ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
  ),
  Kind("zoom_blur", zoom_blur, ((1.06,), (1.11,), (1.16,), (1.21,), (1.26,))),
  Kind(
    "gaussian_blur",
    gaussian_blur,
    ((0.4,), (0.6,), (0.7,), (0.8,), (1,)),
    False,
  ),
)
