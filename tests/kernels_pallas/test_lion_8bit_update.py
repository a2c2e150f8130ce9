"""One step of 8-bit Lion by kernels, interpreted, against its formulas."""

import numpy as np

from tests.kernels_pallas import contract, eight_bit


def numpy_step(w, g, mu, absmax, numbers, *others, decayed):
  """Formulas in float64."""
  del others  # Cotangents.
  rate, b1, b2, decay, scale = numbers
  good = np.isfinite(g)
  g = np.where(good, g * scale, 0)
  m = eight_bit.load(mu, absmax, True)
  step = -rate * (np.sign(b1 * m + (1 - b1) * g) + decay * decayed * w)
  step = np.where(good, step, 0)
  m = np.where(good, b2 * m + (1 - b2) * g, 0)
  return w + step, *eight_bit.store(m, absmax, True), np.sum(step**2)


class TestContract(contract.Contract):
  """Against the formulas above."""

  name = "lion_8bit_update"
  transcription = staticmethod(numpy_step)
