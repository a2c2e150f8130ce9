"""Float64 transcriptions of SWAN, in PyTorch's layout (out, in)."""

import numpy as np

from tests.optim.cases import Case
from tests.optim.references import adamw

PRESETS = {
  # (centred, beta, steps, Gram matrix over its own norm, diagonal)
  "inexact": (True, 0.8, 10, False, False),
  "uncentered": (False, 0.8, 10, False, False),
  "textbook": (True, 0.5, 5, True, False),
  "diagonal": (False, 0.4, 2, False, True),
}


def grad_norm(g, center):
  """Equation 30 of arXiv:2502.07752, along the rows of (out, in)."""
  mean = g.mean(axis=1, keepdims=True) if center else 0.0
  deviation = np.sqrt(((g - mean) ** 2).mean(axis=1, keepdims=True))
  return (g - mean) / deviation


def inverse_root(a, beta, steps, diagonal):
  """Appendix B.8 of arXiv:2502.07752, with the step's beta; or diagonal."""
  y, z = a, np.eye(len(a))
  three = 3 * np.eye(len(a))
  for _ in range(steps):
    if diagonal:
      z_diagonal = np.diag(np.diag(z))
      y, z = (
        beta * y @ np.diag(3 - np.diag(z) * np.diag(y)),
        beta * (three - z_diagonal @ y) @ z_diagonal,
      )
    else:
      y, z = beta * y @ (three - z @ y), beta * (three - z @ y) @ z
  return z


def direction(g, preset):
  """One matrix (out, in)."""
  center, beta, steps, gram_norm, diagonal = PRESETS[preset]
  x = grad_norm(g, center)
  x = x / np.linalg.norm(x)
  tall = x.shape[0] > x.shape[1]
  x = x.T if tall else x
  gram = x @ x.T
  if gram_norm:
    gram = gram / np.linalg.norm(gram)
  z = inverse_root(gram, beta, steps, diagonal)
  x = (z @ x).T if tall else z @ x
  return x / np.sqrt((x**2).mean())


def swan(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  preset="inexact",
  matrix_scale=0.05,
  weight_decay=0.0,
):
  """Section 4 of arXiv:2412.13148, with AdamW beside."""
  if kind != "matrix":
    return adamw(
      kind,
      w,
      gradient,
      steps,
      learning_rate=learning_rate,
      weight_decay=weight_decay,
    )
  for t in range(1, steps + 1):
    x = direction(gradient(t, w).reshape(len(w), -1), preset).reshape(w.shape)
    w = w - learning_rate * (matrix_scale * x + weight_decay * w)
  return w


CASES = (
  Case(
    "swan",
    swan,
    like="muon",
    variants=(
      {"preset": "inexact"},
      {"preset": "uncentered", "weight_decay": 0.3},
      {"preset": "textbook"},
      {"preset": "diagonal"},
    ),
    # The map w -> (0.8 (3 - w))^2 w of a step has slopes of up to 1.92 once a
    # singular value has grown: 1.92^10 * 30 u.
    rounding=1.3e-3,
    # Centring takes away the mean of the gradient.
    convergence={"matrix_scale": 0.5, "preset": "uncentered"},
    bad={
      "ns_beta": ((1.0, ValueError),),
      "preset": (("paper", ValueError),),
      "prenorm": (("none", ValueError),),
      "side": (("rows", ValueError),),
    },
  ),
)
