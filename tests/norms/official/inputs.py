"""Activations and gradients that any NumPy makes alike.

Every number is one product's fraction, so that a recording need not hold it.
Only NumPy is imported: `record.py` runs where normjax is not.
"""

import numpy as np

BATCH, TIME, CHANNELS = 2, 5, 4
SPIKES = (9, 1008)
# The official code holds no gradient back before step 1000.
STEPS = 1012
RECORDED_STEPS = (1, 2, 4, 5, 6, 7, 9, 10, 1000, 1001, 1008, 1009, STEPS)


def _uniform(seed, shape):
  """In [-2, 2), by multiples of the golden ratio."""
  index = np.arange(1 + seed * np.prod(shape), 1 + (seed + 1) * np.prod(shape))
  return (4 * (index * 0.6180339887498949 % 1) - 2).reshape(shape)


def tokens(step):
  """(b, t, c), the activations of a step 1, 2, …: 8 times larger in SPIKES."""
  x = _uniform(2 * step, (BATCH, TIME, CHANNELS)) * np.exp2(
    -np.arange(CHANNELS)
  )
  return x * (8 if step in SPIKES else 1) * (1 + step % 5 / 4)


def cotangents(step):
  """(b, t, c), the gradients of the norm's output; they follow the input."""
  noise = _uniform(2 * step + 1, (BATCH, TIME, CHANNELS))
  return noise + 0.5 * np.sign(tokens(step))


def padding():
  """(b, t), true where a token is padding."""
  return np.arange(TIME) >= np.array([[5], [3]])


def parameters():
  """The gain and the offset, (c,)."""
  return 1 + np.arange(CHANNELS) / 8, np.arange(CHANNELS) / 4 - 0.5


# ----- Images, for `record_images.py` -----

IMAGES = (4, 3, 3, 8)
IMAGE_STEPS = 3


def images(step):
  """(b, y, x, c), of step 1, 2, …: channels of different size and mean."""
  x = _uniform(2 * step, IMAGES) * (1 + np.arange(IMAGES[-1])) / 4
  return x * (1 + step / 4) + np.arange(IMAGES[-1]) / 2 - 1


def image_cotangents(step):
  """(b, y, x, c), the gradients of the norm's output."""
  return _uniform(2 * step + 1, IMAGES) + 0.5 * np.sign(images(step))


def image_parameter(index, shape):
  """The index-th parameter: around 1, or around 0 where the index is odd."""
  return _uniform(100 + index, shape) / 4 + (index + 1) % 2
