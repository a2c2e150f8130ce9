"""SCALE and Stable-SPAM, from their equations, in PyTorch's layout.

As `references.py`, whose `run` says what the arguments are.
"""

import numpy as np

from tests.optim import references
from tests.optim.cases import Case


def scale(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  momentum=0.9,
  eps=1e-8,
  weight_decay=0.0,
):
  """Algorithm 1 of arXiv:2506.16659, columns by their root mean square."""
  if kind == "vector":
    return references.adamw(
      kind,
      w,
      gradient,
      steps,
      learning_rate=learning_rate,
      weight_decay=weight_decay,
    )
  # PyTorch has outputs first, but of an embedding, (vocab, dim).
  axis = 0 if kind == "embedding" else tuple(range(1, w.ndim))
  m = np.zeros_like(w)
  for t in range(1, steps + 1):
    g = gradient(t, w)
    m = momentum * m + (1 - momentum) * g
    u = m if kind == "head" else g
    rms = np.sqrt(np.mean(u**2, axis=axis, keepdims=True))
    w = w - learning_rate * (u / np.maximum(rms, eps) + weight_decay * w)
  return w


def stable_spam(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  b1=0.9,
  b2=0.999,
  eps=1e-8,
  norm_b1=0.7,
  norm_b2=0.9,
  threshold_beta=0.999,
  reset_every=1000,
  official_reset=False,
  cosine_steps=0,
  cosine_end=0.5,
  weight_decay=0.0,
):
  """AdaClip, AdaGN and resets of arXiv:2502.17055, of one tensor."""
  decay = 0.0 if kind == "vector" else weight_decay
  m = v = np.zeros_like(w)
  threshold = norm = square = 0.0
  since = 0
  for t in range(1, steps + 1):
    fraction = 1.0
    if cosine_steps:
      angle = np.pi * t / (cosine_steps + 1)
      fraction = cosine_end + (1 - cosine_end) * (1 + np.cos(angle)) / 2
    g = gradient(t, w).copy()
    w = w - learning_rate * decay * w
    since += 1
    seen = since if official_reset else t
    largest = np.abs(g).max()
    threshold = threshold_beta * threshold + (1 - threshold_beta) * largest
    limit = threshold / (1 - threshold_beta**seen)
    spikes = np.abs(g) > limit
    g[spikes] = g[spikes] / largest * limit
    size = np.linalg.norm(g)
    g1 = norm_b1 * fraction
    norm = g1 * norm + (1 - g1) * size
    square = norm_b2 * square + (1 - norm_b2) * size**2
    mean = norm / (1 - g1**seen)
    root = np.sqrt(square / (1 - norm_b2**seen))
    g = g / size * (mean / (root + eps))
    is_reset = reset_every and t % reset_every == 0
    if is_reset:
      since = 1
      if not official_reset:
        m = v = np.zeros_like(w)
    a1 = b1 * fraction
    m = a1 * m + (1 - a1) * g
    v = b2 * v + (1 - b2) * g**2
    adam = m / (1 - a1**since) / (np.sqrt(v / (1 - b2**since)) + eps)
    w = w - learning_rate * adam
    if is_reset and official_reset:
      m = v = np.zeros_like(w)
  return w


CASES = (
  Case(
    "scale",
    scale,
    like="muon",
    variants=({}, {"momentum": 0.5, "eps": 0.3, "weight_decay": 0.3}),
    # A root mean square of up to 24 terms, and the fallback's Adam.
    rounding=4e-5,
    bad={"momentum_on": (("(", ValueError),)},
    silent={
      "momentum": "is of the head, which the small tree has not",
      "fallback_weight_decay": "is of vectors, which do not decay",
    },
  ),
  Case(
    "stable_spam",
    stable_spam,
    variants=(
      {},
      {
        **{"b1": 0.5, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.3},
        **{"norm_b1": 0.5, "norm_b2": 0.8, "threshold_beta": 0.6},
        **{"reset_every": 4, "cosine_steps": 12, "cosine_end": 0.3},
      },
      {"reset_every": 4, "official_reset": True, "threshold_beta": 0.9},
    ),
    # Adam's, and the two norms of up to 120 squares.
    rounding=4e-5,
    bad={
      "norm_b1": ((1.0, ValueError),),
      "norm_b2": ((-0.1, ValueError),),
      "threshold_beta": ((1.0, ValueError),),
      "reset_every": ((-1, ValueError), (2.5, TypeError)),
      "cosine_steps": ((-1, ValueError), (2.5, TypeError)),
      "cosine_end": ((1.5, ValueError),),
    },
    silent={"cosine_end": "is of a fall that takes cosine_steps"},
  ),
)
