"""Small streams that any NumPy makes alike; `record.py` imports no more."""

import numpy as np

CHANNELS, IMAGE = 4, (3, 2)
CLASSES, PER_TASK, TASKS = 6, 2, 3

# ----- The norm -----

# (the current task, the task of each example) of every step: one task; all that
# were seen; an old one absent; a middle one absent; all of three.
NORM_STEPS = (
  (0, (0, 0, 0, 0, 0, 0)),
  (1, (0, 0, 1, 1, 1, 0)),
  (1, (1, 1, 1, 1, 1, 1)),
  (2, (0, 2, 2, 2, 0, 2)),
  (2, (1, 2, 0, 2, 2, 0)),
)
KAPPAS = (0.0, 0.1, 0.4, 0.7, 1.0)
ETAS = 60
# Of the layer's own loss.
LAMBDA = 0.7
TASK_WEIGHT = np.array([0.3, -0.5, 0.2])


def numbers(seed, shape):
  """In [-2, 2), by multiples of the golden ratio."""
  size = int(np.prod(shape))
  index = np.arange(1 + seed * size, 1 + (seed + 1) * size)
  return (4 * (index * 0.6180339887498949 % 1) - 2).reshape(shape)


def images(step):
  """(b, y, x, c): channels of different size and mean."""
  x = numbers(2 * step, (6, *IMAGE, CHANNELS)) * (1 + np.arange(CHANNELS)) / 4
  return x * (1 + step / 4) + np.arange(CHANNELS) / 2 - 1


def cotangents(step):
  """(b, y, x, c), the gradients of the norm's output."""
  return numbers(2 * step + 1, (6, *IMAGE, CHANNELS)) + np.sign(images(step))


def affine():
  """The gain and the offset, (c,)."""
  return 1 + np.arange(CHANNELS) / 8, np.arange(CHANNELS) / 4 - 0.5


# ----- The learners: 1x1 convolution, norm, ReLU, mean, linear -----

LEARNING_RATE = 0.2
ALPHA, BETA = 0.3, 0.7
KAPPA, PENALTY, PENALTY_FROM = 0.4, 0.5, 1
# (task, labels of the new examples, labels of two draws) of every step; the
# buffer is empty before the first.
STEPS = (
  (0, (0, 1, 1, 0), None),
  (0, (1, 0, 0, 1), ((0, 1, 0, 1), (1, 1, 0, 0))),
  (1, (2, 2, 2, 2), ((0, 1, 0, 0), (1, 2, 0, 1))),
  (1, (3, 2, 3, 2), ((1, 3, 1, 1), (0, 0, 3, 2))),
  (2, (4, 5, 4, 5), ((0, 1, 4, 0), (2, 3, 0, 5))),
)


def start():
  """The parameters: kernel (2, c), gain, offset, (c, classes), (classes,)."""
  scale, bias = affine()
  return {
    "kernel": numbers(90, (2, CHANNELS)),
    "scale": scale,
    "bias": bias,
    "task_weight": TASK_WEIGHT,
    "head": numbers(91, (CHANNELS, CLASSES)) / 2,
    "head_bias": numbers(92, (CLASSES,)) / 4,
  }


def stream(step):
  """The new inputs (4, y, x, 2) of a step, and those of two draws."""
  return [numbers(100 + 3 * step + n, (4, *IMAGE, 2)) for n in range(3)]


def kept(step):
  """(4, classes), the logits that the first draw was stored with."""
  return numbers(200 + step, (4, CLASSES))
