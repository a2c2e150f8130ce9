"""Capital letters in 20 fonts, distorted at random: images with 26 classes.

As in the UCI letter recognition set (Frey, Slate 1991), whose images were never
published, only 16 numbers of each. Fonts are those that come with matplotlib:
DejaVu, STIX and Computer Modern, each under a free licence of its own. They are
drawn by the installed Pillow: another version may change grey levels a little.
"""

import math
import string

import numpy as np

from normjax import rng

FONTS = (
  "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique",
  "DejaVuSans-BoldOblique", "DejaVuSansMono", "DejaVuSansMono-Bold",
  "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique", "DejaVuSerif",
  "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
  "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
  "cmr10", "cmb10", "cmss10", "cmtt10",
)  # fmt: skip
PER_FONT = 20
SIZE = 16
# Letters are drawn this many times as large, and averaged.
_OVER = 4


def draw() -> tuple[np.ndarray, np.ndarray]:
  """All images, sorted by letter: (10400, 16, 16, 1) bytes, and the labels.

  A letter is turned by up to 15 degrees, sheared by up to 0.25, scaled to 0.75
  to 1 along each axis and shifted by up to 1 pixel, all uniform, and has normal
  noise of a deviation of 0.15 of white.
  """
  generator = np.random.default_rng(rng.host_seed(0, "letters"))
  fonts = list(map(_font, FONTS))
  images, labels = [], []
  for label, letter in enumerate(string.ascii_uppercase):
    for font in fonts:
      glyph = _glyph(font, letter)
      for _ in range(PER_FONT):
        images.append(_distorted(glyph, generator))
        labels.append(label)
  return np.stack(images)[..., None], np.asarray(labels)


def _font(name: str):
  from matplotlib import get_data_path  # Late: only needed to fill the cache.
  from PIL import ImageFont

  return ImageFont.truetype(
    f"{get_data_path()}/fonts/ttf/{name}.ttf", 7 * SIZE * _OVER // 8
  )


def _glyph(font, letter: str):
  """The letter in white, in the middle of a square."""
  from PIL import Image, ImageDraw

  side = SIZE * _OVER
  image = Image.new("L", (side, side))
  left, top, right, bottom = font.getbbox(letter)
  corner = (side - left - right) / 2, (side - top - bottom) / 2
  ImageDraw.Draw(image).text(corner, letter, 255, font=font)
  return image


def _distorted(glyph, generator: np.random.Generator) -> np.ndarray:
  from PIL import Image

  side = SIZE * _OVER
  angle = math.radians(generator.uniform(-15, 15))
  shear = generator.uniform(-0.25, 0.25)
  scales = generator.uniform(0.75, 1.0, 2)
  shift = generator.uniform(-_OVER, _OVER, 2)
  turn = np.array(
    [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
  )
  # From a place in the new image to one in the glyph.
  inverse = np.linalg.inv(turn @ [[1, shear], [0, 1]] @ np.diag(scales))
  middle = np.full(2, (side - 1) / 2)
  offset = middle - inverse @ (middle + shift)
  matrix = np.column_stack([inverse, offset]).ravel()
  turned = glyph.transform(
    (side, side),
    Image.Transform.AFFINE,
    tuple(matrix.tolist()),
    Image.Resampling.BILINEAR,
  )
  small = np.asarray(turned.reduce(_OVER), np.float64)
  noise = generator.normal(0, 0.15 * 255, small.shape)
  return np.clip(np.rint(small + noise), 0, 255).astype(np.uint8)
