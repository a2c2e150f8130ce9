"""Random crops and mirror images for training on images."""

import math
from typing import Any

import numpy as np


def crop_and_flip(
  images_byxc: np.ndarray,
  generator: np.random.Generator,
  *,
  padding: int = 4,
  mirror: bool = True,
) -> np.ndarray:
  """Crops of the zero-padded image, mirrored half of the time.

  He et al. 2015, arXiv:1512.03385, section 4.2.

  Args:
    images_byxc: standardized, so that zero is the mean.
    generator: draws the places.
    padding: pixels a side.
    mirror: whether left and right may change places.

  Returns:
    Images of the same shape.
  """
  b, y, x, _ = images_byxc.shape
  border = (padding, padding)
  padded = np.pad(images_byxc, ((0, 0), border, border, (0, 0)))
  top, left = generator.integers(2 * padding + 1, size=(2, b))
  rows = top[:, None] + np.arange(y)
  columns = left[:, None] + np.arange(x)
  mirrored = mirror & (generator.random(b) < 0.5)
  columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
  return padded[
    np.arange(b)[:, None, None], rows[:, :, None], columns[:, None, :]
  ]


def _to_image(image_yxc: np.ndarray) -> Any:
  from PIL import Image

  grey = image_yxc.shape[-1] == 1
  return Image.fromarray(image_yxc[..., 0] if grey else image_yxc)


def _to_array(image: Any) -> np.ndarray:
  array = np.asarray(image)
  return array[..., None] if array.ndim == 2 else array


def resized_center(
  image_yxc: np.ndarray, size: int, shorter_side: float | None = None
) -> np.ndarray:
  """The shorter side resized, bilinear, then the center.

  Args:
    image_yxc: uint8, of any size.
    size: of the side of the center.
    shorter_side: at least `size`; None is 8/7 of it, as 256 and 224 in the
      evaluation of ImageNet: arXiv:1512.03385, section 3.4.
  """
  from PIL import Image

  height, width, _ = image_yxc.shape
  scale = (shorter_side or size * 8 / 7) / min(height, width)
  resized = _to_image(image_yxc).resize(
    (round(width * scale), round(height * scale)), Image.Resampling.BILINEAR
  )
  top = (resized.height - size) // 2
  left = (resized.width - size) // 2
  return _to_array(resized.crop((left, top, left + size, top + size)))


def resized_crop(
  image_yxc: np.ndarray,
  size: int,
  generator: np.random.Generator,
  *,
  mirror: bool = True,
) -> np.ndarray:
  """A random part of the image, resized, mirrored half of the time.

  The part has 8% to 100% of the area and an aspect ratio of 3/4 to 4/3:
  Szegedy et al. 2014, arXiv:1409.4842, section 6. Where ten draws do not fit,
  the center.

  Args:
    image_yxc: uint8, of any size.
    size: of the side of the result.
    generator: draws the part.
    mirror: whether left and right may change places.
  """
  from PIL import Image

  height, width, _ = image_yxc.shape
  mirrored = mirror & (generator.random() < 0.5)
  result = None
  for _ in range(10):
    area = height * width * generator.uniform(0.08, 1.0)
    ratio = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
    x, y = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < x <= width and 0 < y <= height:
      left = int(generator.integers(width - x + 1))
      top = int(generator.integers(height - y + 1))
      part = _to_image(image_yxc).resize(
        (size, size),
        Image.Resampling.BILINEAR,
        box=(left, top, left + x, top + y),
      )
      result = _to_array(part)
      break
  if result is None:
    result = resized_center(image_yxc, size)
  return result[:, ::-1] if mirrored else result
