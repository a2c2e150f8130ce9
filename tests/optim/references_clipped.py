"""Float64 NumPy transcription of clipped optimizers, in PyTorch's layout.

As `references.py`, whose `LAYOUTS` say what the arguments are.
"""

import numpy as np

from tests.optim.cases import Case


def clip_units(kind, w, g, clipping, eps):
  """Units are rows, as in timm's copy of the official code."""
  whole = kind == "vector" or sum(size > 1 for size in w.shape) <= 1
  rows = 1 if whole else len(w)
  w_view, g_view = w.reshape(rows, -1), g.reshape(rows, -1)
  out = np.array(g_view)
  for row in range(rows):
    limit = clipping * max(np.sqrt(np.sum(w_view[row] ** 2)), eps)
    norm = np.sqrt(np.sum(g_view[row] ** 2))
    if norm > limit:
      out[row] = g_view[row] * (limit / max(norm, 1e-6))
  return out.reshape(g.shape)


def nfnet_sgd(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  momentum=0.9,
  nesterov=True,
  clipping=0.01,
  eps=1e-3,
  weight_decay=2e-5,
  exempt="heads",
):
  """`SGD_AGC` of deepmind-research/nfnets, its groups by `kind`."""
  clips = kind != "head" or exempt is None
  decay = 0.0 if kind == "vector" else weight_decay
  buffer = np.zeros_like(w)
  for t in range(1, steps + 1):
    g = gradient(t, w)
    if clips:
      g = clip_units(kind, w, g, clipping, eps)
    g = g + w * decay
    buffer = momentum * buffer + g
    w = w - learning_rate * (g + momentum * buffer if nesterov else buffer)
  return w


CASES = (
  Case(
    "nfnet_sgd",
    nfnet_sgd,
    like="sgd",
    variants=(
      {},
      # A bound that some units meet and others don't.
      {"clipping": 1.0, "eps": 1.0, "weight_decay": 0.3, "nesterov": False},
      {"clipping": 1.0, "momentum": 0.5, "exempt": None, "weight_decay": 0.3},
    ),
    # Two norms of up to 24 terms and their quotient, summed over twelve steps.
    rounding=2e-6,
    # Weights grow by a percent of themselves per step, from a norm of 1e-3.
    convergence={"learning_rate": 0.1},
    bad={
      "clipping": ((-1.0, ValueError),),
      "exempt": (("(", ValueError),),
    },
  ),
)
