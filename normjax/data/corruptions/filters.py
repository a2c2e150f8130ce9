"""What several corruptions share: filters, zooms, plasma clouds."""

import functools
import math

import numpy as np
import scipy  # Its subpackages are loaded when first used.

from normjax.data.corruptions.kind import Draws

# Where an image ends, in SciPy's words: "nearest" repeats the last pixel,
# "mirror" goes back without repeating it, "reflect" goes back from it.


def to_bytes(images: np.ndarray) -> np.ndarray:
  """[0, 1] to the nearest of 0 … 255, as uint8."""
  return np.floor(np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8)


def gaussian(
  images_byxc: np.ndarray,
  sigma: float,
  *,
  mode: str = "nearest",
  truncate: float = 4.0,
) -> np.ndarray:
  """Each channel blurred, sigma in pixels; scikit-image's defaults."""
  if sigma <= 0:
    return images_byxc
  for axis in (1, 2):
    images_byxc = scipy.ndimage.gaussian_filter1d(
      images_byxc, sigma, axis=axis, mode=mode, truncate=truncate
    )
  return images_byxc


def disk(radius: float, alias_sigma: float) -> np.ndarray:
  """A disk of sum 1, then blurred by 3 x 3 values of a Gaussian."""
  reach = math.ceil(radius) + 1
  offset = np.arange(-reach, reach + 1)
  flat = (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.float64)
  taps = np.exp(-(np.arange(-1, 2) ** 2) / (2 * alias_sigma**2))
  taps /= taps.sum()
  blurred = scipy.ndimage.correlate(flat / flat.sum(), np.outer(taps, taps))
  return blurred


def correlate(images_byxc: np.ndarray, kernel_yx: np.ndarray) -> np.ndarray:
  """Each channel under one kernel; borders are mirrored."""
  return scipy.ndimage.correlate(
    images_byxc, kernel_yx[None, :, :, None], mode="mirror"
  )


def motion(
  images_byxc: np.ndarray, radius: int, sigma: float, angle_b: np.ndarray
) -> np.ndarray:
  """ImageMagick's motion blur, in degrees, to 8 bits.

      y[p] = sum_i k_i x[p + round_half_down(i (cos a, sin a))],
      k_i ~ exp(-i^2 / (2 sigma^2)),  i = 0 … 2 radius

  A pixel takes from one side only; pixels repeat past the border.
  """
  b, y, x, _ = images_byxc.shape
  steps = np.arange(2 * radius + 1)
  weights = np.exp(-(steps**2) / (2 * sigma**2))
  weights /= weights.sum()
  angle_b1 = np.deg2rad(angle_b)[:, None]
  down_bi = np.ceil(steps * np.sin(angle_b1) - 0.5).astype(int)
  right_bi = np.ceil(steps * np.cos(angle_b1) - 0.5).astype(int)
  images_byxc = to_bytes(images_byxc) / 255
  total = np.zeros(images_byxc.shape)
  which = np.arange(b)[:, None, None]
  for i, weight in enumerate(weights):
    rows = np.clip(np.arange(y) + down_bi[:, i, None], 0, y - 1)
    columns = np.clip(np.arange(x) + right_bi[:, i, None], 0, x - 1)
    total += weight * images_byxc[which, rows[:, :, None], columns[:, None, :]]
  return to_bytes(total) / 255


@functools.lru_cache(maxsize=256)
def _zoom_matrix(size: int, factor: float) -> np.ndarray:
  """(size, size): the center of an axis, linearly enlarged to the axis."""
  kept = math.ceil(size / factor)
  start = (size - kept) // 2
  large = round(kept * factor)
  first = (large - size) // 2
  # Corners go to corners, as in scipy.ndimage.zoom.
  scale = (kept - 1) / (large - 1) if large > 1 else 0.0
  position = (first + np.arange(size)) * scale
  below = np.minimum(np.floor(position).astype(int), max(kept - 2, 0))
  above = np.minimum(below + 1, kept - 1)
  matrix = np.zeros((size, size))
  rows = np.arange(size)
  matrix[rows, start + below] += 1 - (position - below)
  matrix[rows, start + above] += position - below
  return matrix


def zoom(images_byxc: np.ndarray, factor: float) -> np.ndarray:
  """The center enlarged to the whole, linearly; the shape stays."""
  _, y, x, _ = images_byxc.shape
  images_bcyx = np.ascontiguousarray(np.moveaxis(images_byxc, -1, 1))
  zoomed = _zoom_matrix(y, factor) @ images_bcyx @ _zoom_matrix(x, factor).T
  return np.moveaxis(zoomed, 1, -1)


def bilinear(
  images_byxc: np.ndarray,
  row_byx: np.ndarray,
  column_byx: np.ndarray,
  mode: str,
) -> np.ndarray:
  """Values at real positions; the border is "mirror" or "reflect"."""
  b, y, x, _ = images_byxc.shape
  fold = {"mirror": _mirror, "reflect": _reflect}[mode]
  top, left = np.floor(row_byx), np.floor(column_byx)
  down, right = (row_byx - top)[..., None], (column_byx - left)[..., None]
  which = np.arange(b)[:, None, None]
  rows = [fold(top.astype(int) + i, y) for i in (0, 1)]
  columns = [fold(left.astype(int) + i, x) for i in (0, 1)]
  upper, lower = (
    (1 - right) * images_byxc[which, row, columns[0]]
    + right * images_byxc[which, row, columns[1]]
    for row in rows
  )
  return (1 - down) * upper + down * lower


def _mirror(index: np.ndarray, size: int) -> np.ndarray:
  period = max(2 * (size - 1), 1)
  index = index % period
  return np.minimum(index, period - index) if size > 1 else index * 0


def _reflect(index: np.ndarray, size: int) -> np.ndarray:
  index = index % (2 * size)
  return np.minimum(index, 2 * size - 1 - index)


def plasma(draws: Draws, size: int, decay: float) -> np.ndarray:
  """Clouds by the diamond-square rule, (b, size, size) from 0 to 1.

  The benchmark's own rule: borders wrap around, and a random step is drawn
  from ±w^2, where w starts at 100 and is divided by `decay` a level.

  Args:
    draws: size^2 - 1 numbers are drawn an image.
    size: a power of two.
    decay: of w.
  """
  steps = draws.uniform(-1, 1, (size * size - 1,))
  map_byx = np.zeros((len(steps), size, size))
  used, stride, wibble = 0, size, 100.0

  def mean(total_byx):
    nonlocal used
    count = total_byx[0].size
    step = steps[:, used : used + count].reshape(total_byx.shape)
    used += count
    return total_byx / 4 + wibble**2 * step

  while stride >= 2:
    half = stride // 2
    corner = map_byx[:, ::stride, ::stride]
    square = corner + np.roll(corner, -1, 1)
    square = square + np.roll(square, -1, 2)
    map_byx[:, half::stride, half::stride] = mean(square)
    center = map_byx[:, half::stride, half::stride]
    beside = center + np.roll(center, 1, 1) + corner + np.roll(corner, -1, 2)
    map_byx[:, ::stride, half::stride] = mean(beside)
    under = center + np.roll(center, 1, 2) + corner + np.roll(corner, -1, 1)
    map_byx[:, half::stride, ::stride] = mean(under)
    stride, wibble = half, wibble / decay
  map_byx -= map_byx.min((1, 2), keepdims=True)
  return map_byx / map_byx.max((1, 2), keepdims=True)
