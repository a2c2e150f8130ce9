"""A network and a stream that any NumPy makes alike.

Only NumPy is imported: `record.py` runs where normjax is not.
"""

import numpy as np

BATCH, SIDE, CLASSES, STEPS = 6, 4, 5, 4
WIDTHS = (3, 6, 8)


def uniform(seed, shape, least=-1.0, most=1.0):
  """By multiples of the golden ratio, so that a recording need not hold it."""
  size = int(np.prod(shape))
  index = 1 + 1000 * seed + np.arange(size)
  return (least + (most - least) * (index * 0.6180339887498949 % 1)).reshape(
    shape
  )


def batch(step):
  """(b, c, y, x): means and sizes change by step, and within the batch."""
  x = uniform(50 + step, (BATCH, WIDTHS[0], SIDE, SIDE))
  shift = uniform(70 + step, (BATCH, WIDTHS[0], 1, 1))
  return x * (1 + step / 4) + 1.5 * shift


def variables():
  """By name, as PyTorch has them: two blocks of convolution and norm, a head.

  A scale of the head at which some answers are sure and others are not.
  """
  found = {}
  for n, name in ((1, "layer1"), (2, "layer4")):
    inputs, outputs = WIDTHS[n - 1], WIDTHS[n]
    found |= {
      f"{name}.0.weight": uniform(n, (outputs, inputs, 3, 3)) / inputs,
      f"{name}.0.bias": uniform(n + 10, (outputs,)) / 4,
      f"{name}.1.weight": uniform(n + 20, (outputs,), 0.5, 1.5),
      f"{name}.1.bias": uniform(n + 30, (outputs,)) / 2,
      f"{name}.1.running_mean": uniform(n + 40, (outputs,)) / 2,
      f"{name}.1.running_var": uniform(n + 60, (outputs,), 0.3, 1.5),
    }
  return found | {
    "fc.weight": 8 * uniform(5, (CLASSES, WIDTHS[-1])),
    "fc.bias": uniform(6, (CLASSES,)),
  }


def noise(layer, shape):
  """In place of what UnMix-TNS draws for its components."""
  return 1.5 * uniform(80 + layer, shape)


def memory_draws(count):
  """(count, 3) in [0, 1): of the class, of the place, of being kept."""
  return uniform(90, (count, 3), 0.0, 1.0)


def memory_labels(count):
  """Predicted classes of the stream that the memory sees, in runs."""
  return (np.arange(count) // 7 * 3 + np.arange(count) % 2) % CLASSES
