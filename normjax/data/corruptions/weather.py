"""Weather and light."""

import numpy as np

from normjax.data.corruptions import filters
from normjax.data.corruptions.kind import Draws, Kind

# ITU-R BT.601, as OpenCV makes grey of red, green and blue.
_LUMA = np.asarray([0.299, 0.587, 0.114])


def snow(
  images_byxc: np.ndarray,
  draws: Draws,
  mean: float,
  deviation: float,
  enlarged: float,
  threshold: float,
  radius: int,
  sigma: float,
  kept: float,
) -> np.ndarray:
  """A whitened image under flakes that fall: noise, cut off, motion-blurred."""
  shape = images_byxc.shape[1:3]
  layer = mean + deviation * draws.normal((*shape, 1))
  layer = filters.zoom(layer, enlarged)
  layer = np.where(layer < threshold, 0, layer)
  # Truncated to 8 bits, as in the official code.
  layer = np.floor(np.clip(layer, 0, 1) * 255) / 255
  layer = filters.motion(layer, radius, sigma, draws.uniform(-135, -45))
  grey = images_byxc
  if images_byxc.shape[-1] == 3:
    grey = (images_byxc @ _LUMA)[..., None]
  white = np.maximum(images_byxc, grey * 1.5 + 0.5)
  whitened = kept * images_byxc + (1 - kept) * white
  return whitened + layer + layer[:, ::-1, ::-1]


def fog(
  images_byxc: np.ndarray, draws: Draws, amount: float, decay: float
) -> np.ndarray:
  """A cloud is added, and the sum scaled back to the brightest pixel.

  The cloud is the corner of one whose side is the next power of two.
  """
  y, x = images_byxc.shape[1:3]
  size = 1 << (max(y, x) - 1).bit_length()
  cloud = filters.plasma(draws, size, decay)[:, :y, :x, None]
  brightest = images_byxc.max((1, 2, 3), keepdims=True)
  return (images_byxc + amount * cloud) * brightest / (brightest + amount)


def brightness(
  images_byxc: np.ndarray, draws: Draws, added: float
) -> np.ndarray:
  """`added` to the value of HSV, the largest channel; hue and saturation stay.

  Of a grey image the value is all there is: it is added to every pixel.
  """
  del draws
  value = images_byxc.max(-1, keepdims=True)
  brighter = np.clip(value + added, 0, 1)
  # All channels scale with the value; black has no saturation.
  ratio = brighter / np.where(value > 0, value, 1)
  return np.where(value > 0, images_byxc * ratio, brighter)


KINDS = (
  Kind(
    "snow",
    snow,
    (
      (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
      (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
      (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
      (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
      (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
  ),
  Kind("fog", fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
  Kind("brightness", brightness, ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,))),
)
