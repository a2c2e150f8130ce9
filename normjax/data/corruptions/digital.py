"""What cameras, codecs and software do."""

import io

import numpy as np

from normjax.data.corruptions import filters
from normjax.data.corruptions.kind import Draws, Kind


def contrast(
  images_byxc: np.ndarray, draws: Draws, factor: float
) -> np.ndarray:
  """Makes x factor (x - mean) + mean, with each channel's own mean."""
  del draws
  mean = images_byxc.mean((1, 2), keepdims=True)
  return (images_byxc - mean) * factor + mean


def saturate(
  images_byxc: np.ndarray, draws: Draws, factor: float, added: float
) -> np.ndarray:
  """HSV's saturation S becomes clip(factor S + added, 0, 1).

  Grey pixels of a colour image have hue 0, red, as in the official code. An
  image of one channel has no saturation and stays as it is.
  """
  del draws
  if images_byxc.shape[-1] == 1:
    return images_byxc
  value = images_byxc.max(-1, keepdims=True)
  chroma = value - images_byxc.min(-1, keepdims=True)
  safe_value = np.where(value > 0, value, 1)
  saturation = chroma / safe_value
  # A channel lies below the value by this part of the chroma: hue alone.
  below = np.where(
    chroma > 0,
    (value - images_byxc) / np.where(chroma > 0, chroma, 1),
    [0.0, 1.0, 1.0],
  )
  return value * (1 - np.clip(saturation * factor + added, 0, 1) * below)


def elastic(
  images_byxc: np.ndarray,
  draws: Draws,
  amplitude: float,
  smoothing: float,
  jitter: float,
) -> np.ndarray:
  """A random affine map, then random smooth displacements.

  The constants are parts of the shorter side. OpenCV rounds the positions of
  the affine map to 1/32 pixel; here they are exact.
  """
  _, y, x, _ = images_byxc.shape
  side = min(y, x)
  rows, columns = np.meshgrid(np.arange(y), np.arange(x), indexing="ij")
  map_bij = _inverse_affine(
    (y, x), draws.uniform(-jitter * side, jitter * side, (3, 2))
  )
  place = np.stack([columns, rows, np.ones((y, x))])
  column_byx, row_byx = np.moveaxis(
    np.einsum("bij,jyx->biyx", map_bij, place), 1, 0
  )
  images_byxc = filters.bilinear(images_byxc, row_byx, column_byx, "mirror")
  right, down = (
    amplitude
    * side
    * filters.gaussian(
      draws.uniform(-1, 1, (y, x, 1)),
      smoothing * side,
      mode="reflect",
      truncate=3.0,
    )[..., 0]
    for _ in range(2)
  )
  return filters.bilinear(images_byxc, rows + down, columns + right, "reflect")


def _inverse_affine(
  shape: tuple[int, int], shift_bpi: np.ndarray
) -> np.ndarray:
  """(b, 2, 3): where a pixel (x, y, 1) of the result comes from.

  Three corners of a square around the center go to shifted places.
  """
  center = np.asarray(shape) // 2
  third = min(shape) // 3
  corners = center + third * np.asarray([[1, 1], [1, -1], [-1, -1]])
  homogeneous = np.concatenate(
    [corners + shift_bpi, np.ones((len(shift_bpi), 3, 1))], axis=-1
  )
  # homogeneous @ map^T = corners.
  return np.swapaxes(np.linalg.solve(homogeneous, corners[None]), 1, 2)


def pixelate(images_byxc: np.ndarray, draws: Draws, scale: float) -> np.ndarray:
  """Box-averaged to int(scale side) pixels and back, in 8 bits (Pillow)."""
  del draws
  _, y, x, _ = images_byxc.shape
  small = (max(int(x * scale), 1), max(int(y * scale), 1))

  def there_and_back(image):
    box = image.resize(small, _pillow().Resampling.BOX)
    return box.resize((x, y), _pillow().Resampling.BOX)

  return _each_image(images_byxc, there_and_back)


def jpeg_compression(
  images_byxc: np.ndarray, draws: Draws, quality: int
) -> np.ndarray:
  """Through JPEG of a quality, in 8 bits (Pillow)."""
  del draws

  def there_and_back(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return _pillow().open(file)

  return _each_image(images_byxc, there_and_back)


def _pillow():
  from PIL import Image  # Late: most runs corrupt nothing.

  return Image


def _each_image(images_byxc, function) -> np.ndarray:
  """A function of Pillow's images, of one channel or three."""
  pixels = filters.to_bytes(images_byxc)
  if pixels.shape[-1] == 1:
    pixels = pixels[..., 0]
  results = [
    np.asarray(function(_pillow().fromarray(image))) for image in pixels
  ]
  return np.stack(results).reshape(images_byxc.shape) / 255


def _each(*values: float) -> tuple[tuple[float], ...]:
  return tuple((value,) for value in values)


KINDS = (
  Kind("contrast", contrast, _each(0.75, 0.5, 0.4, 0.3, 0.15)),
  Kind(
    "elastic",
    elastic,
    (
      (0, 0, 0.08),
      (0.05, 0.2, 0.07),
      (0.08, 0.06, 0.06),
      (0.1, 0.04, 0.05),
      (0.1, 0.03, 0.03),
    ),
  ),
  Kind("pixelate", pixelate, _each(0.95, 0.9, 0.85, 0.75, 0.65)),
  Kind("jpeg_compression", jpeg_compression, _each(80, 65, 58, 50, 40)),
  Kind(
    "saturate",
    saturate,
    ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    common=False,
  ),
)
