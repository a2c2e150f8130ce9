"""Float64 NumPy transcription of RACS, in PyTorch's layout.

As `references.py`, whose `run` says what the arguments are.
"""

import numpy as np

from tests.optim import references
from tests.optim.cases import Case


def two_sided(g, num_iters):
  """Equation 16 of arXiv:2502.07752, its expectation of one sample."""
  q = np.ones(g.shape[0])
  for _ in range(num_iters):
    s = np.diag(g.T @ np.diag(q) @ g) / np.linalg.norm(np.diag(q)) ** 2
    q = np.diag(g @ np.diag(s) @ g.T) / np.linalg.norm(np.diag(s)) ** 2
  return s, q


def racs(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  beta=0.9,
  matrix_scale=0.05,
  gamma=1.01,
  num_iters=5,
  weight_decay=0.0,
):
  """Algorithm 1 of arXiv:2502.07752, 1e-8 beside phi as in Fira's code."""
  if kind != "matrix":
    return references.adamw(
      kind,
      w,
      gradient,
      steps,
      learning_rate=learning_rate,
      weight_decay=weight_decay,
    )
  shape = w.shape
  w = w.reshape(len(w), -1)
  s, q = np.zeros(w.shape[1]), np.zeros(w.shape[0])
  phi = 0.0
  for t in range(1, steps + 1):
    g = gradient(t, w.reshape(shape)).reshape(w.shape)
    new_s, new_q = two_sided(g, num_iters)
    s = beta * s + (1 - beta) * new_s
    q = beta * q + (1 - beta) * new_q
    scaled = np.diag(q**-0.5) @ g @ np.diag(s**-0.5)
    norm = np.linalg.norm(scaled)
    eta = gamma / max(norm / (phi + 1e-8), gamma) if t > 1 else 1.0
    phi = eta * norm
    w = w - learning_rate * (eta * matrix_scale * scaled + weight_decay * w)
  return w.reshape(shape)


CASES = (
  Case(
    "racs",
    racs,
    like="muon",
    variants=(
      {},
      {"beta": 0.5, "num_iters": 2, "gamma": 1.1, "weight_decay": 0.3},
    ),
    # Ten means of up to 24 positive terms, and the fallback's Adam.
    rounding=4e-5,
    convergence={"matrix_scale": 0.5},
    bad={"gamma": ((-1.0, ValueError),)},
  ),
)
