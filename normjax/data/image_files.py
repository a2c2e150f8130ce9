"""Images in files: decoded by Pillow to one size, or said to be bad."""

import concurrent.futures
import functools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from normjax.data import augment

SUFFIXES = frozenset(
  {
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
  }
)  # fmt: skip


class Unreadable(Exception):
  """A file that gives no image; the message says why."""


class Form(NamedTuple):
  """What images are made of files.

  The shorter side is resized to `size / crop_fraction`, bilinear, and the
  center is cut out: with 1 as much of the image as a square can hold.

  Attributes:
    size: of the side, pixels.
    channels: 3 for red, green and blue, 1 for grey.
    crop_fraction: in (0, 1].
  """

  size: int
  channels: int
  crop_fraction: float

  @property
  def shape(self) -> tuple[int, int, int]:
    """Of an image."""
    return self.size, self.size, self.channels

  def read(
    self,
    file: Path,
    generator: np.random.Generator | None = None,
    *,
    mirror: bool = True,
  ) -> np.ndarray:
    """The image in a file: `shape`, uint8.

    Args:
      file: of the image; of several frames, the first.
      generator: draws a part of the image, see `augment.resized_crop`; None
        takes the center.
      mirror: whether a drawn part may be mirrored.

    Raises:
      Unreadable: there is no whole image.
    """
    side = self.size / self.crop_fraction
    # A JPEG may be decoded at an eighth of its size; twice what is needed is
    # left to the resizing.
    least = None if generator is not None else int(2 * side) + 1
    pixels = decoded(file, self.channels, least)
    if generator is None:
      return augment.resized_center(pixels, self.size, side)
    return augment.resized_crop(pixels, self.size, generator, mirror=mirror)


def decoded(file: Path, channels: int, least: int | None = None) -> np.ndarray:
  """All pixels of an image, upright as its EXIF data says: (y, x, c), uint8.

  Transparency is dropped; of 16 bits the upper 8 are kept.

  Args:
    file: of the image.
    channels: 3 or 1.
    least: both sides may be decoded smaller, to no less than this.

  Raises:
    Unreadable: there is no whole image.
  """
  from PIL import Image, ImageOps

  mode = "RGB" if channels == 3 else "L"
  try:
    with warnings.catch_warnings():
      # Of an odd palette or damaged EXIF data; the pixels are what counts.
      warnings.simplefilter("ignore")
      with Image.open(file) as image:
        if least is not None:
          image.draft(mode, (least, least))
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
          upper = (np.asarray(upright) >> 8).astype(np.uint8)
          upright = Image.fromarray(upper)
        if upright.mode in ("I", "F"):
          raise Unreadable("its pixels have 32 bits; needed: 8 or 16")
        array = np.asarray(upright.convert(mode))
  # Pillow's decoders raise what they come across.
  except Exception as error:
    raise Unreadable(_why(file, error)) from error
  return array.reshape(*array.shape[:2], channels)


def check_header(file: Path) -> str:
  """Why a file is no image, by its first bytes; nothing where it is one."""
  from PIL import Image

  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      with Image.open(file):
        return ""
  except Exception as error:
    return _why(file, error)


def _why(file: Path, error: Exception) -> str:
  from PIL import UnidentifiedImageError

  if isinstance(error, Unreadable):
    return str(error)
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  if isinstance(error, UnidentifiedImageError):
    empty = file.stat().st_size == 0
    return "empty" if empty else "no image"
  return " ".join(str(error).split()) or type(error).__name__


@functools.cache
def pool() -> concurrent.futures.ThreadPoolExecutor:
  """Threads to decode in: Pillow leaves Python's lock."""
  return concurrent.futures.ThreadPoolExecutor(
    len(os.sched_getaffinity(0)), thread_name_prefix="decode"
  )


def read_all(
  form: Form, files: Sequence[Path], out: np.ndarray
) -> list[tuple[int, str]]:
  """Decodes files into an array.

  Args:
    form: of the images.
    files: n of them.
    out: (n, *form.shape), uint8; zeros where a file gives no image.

  Returns:
    (index, why) of the files that give none.
  """

  def one(index: int) -> tuple[int, str] | None:
    try:
      out[index] = form.read(files[index])
    except Unreadable as error:
      return index, str(error)
    return None

  return [bad for bad in pool().map(one, range(len(files))) if bad]


def check_headers(files: Sequence[Path]) -> list[tuple[int, str]]:
  """(index, why) of the files that are no images, by their first bytes."""
  said = pool().map(check_header, files)
  return [(index, why) for index, why in enumerate(said) if why]
