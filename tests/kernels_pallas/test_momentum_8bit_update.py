"""One step of 8-bit momentum by kernels, interpreted, against its formulas."""

import numpy as np

from tests.kernels_pallas import contract, eight_bit


def numpy_step(w, g, mu, absmax, numbers, *others, decayed):
  """Formulas in float64."""
  del others  # Cotangents.
  rate, momentum, decay, scale = numbers
  good = np.isfinite(g)
  whole = np.where(good, g * scale, 0) + decay * decayed * w
  m = np.where(good, momentum * eight_bit.load(mu, absmax, True) + whole, 0)
  step = -rate * m
  return w + step, *eight_bit.store(m, absmax, True), np.sum(step**2)


class TestContract(contract.Contract):
  """Against the formulas above."""

  name = "momentum_8bit_update"
  transcription = staticmethod(numpy_step)
