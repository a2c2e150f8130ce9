"""Float64 NumPy transcriptions of the baselines; see `references`."""

import numpy as np


def lion(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  b1=0.9,
  b2=0.99,
  weight_decay=1e-3,
):
  """Algorithm 2 of arXiv:2302.06675; vectors do not decay."""
  m = np.zeros_like(w)
  decay = 0.0 if kind == "vector" else weight_decay
  for t in range(1, steps + 1):
    g = gradient(t, w)
    c = b1 * m + (1 - b1) * g
    w = w - learning_rate * (np.sign(c) + decay * w)
    m = b2 * m + (1 - b2) * g
  return w
