"""Optimizers that normalize a gradient or the weights; see `references`."""

import jax
import numpy as np
import optax

from tests.optim.cases import Case


def normalized_gd(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  eps=0.0,
  per="leaf",
  weight_decay=0.0,
):
  """Algorithm 1 of arXiv:1507.02030, of each leaf; vectors do not decay."""
  assert per == "leaf"
  decay = 0.0 if kind == "vector" else weight_decay
  for t in range(1, steps + 1):
    g = gradient(t, w)
    w = w - learning_rate * (g / (np.linalg.norm(g) + eps) + decay * w)
  return w


def nap_adamw(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  b1=0.9,
  b2=0.999,
  eps=1e-8,
  weight_decay=0.0,
  per="matrix",
  every=1,
):
  """Adam, then W <- ||W_0|| / ||W|| W, as arXiv:2407.01800 has it."""
  m = v = np.zeros_like(w)
  decay = 0.0 if kind == "vector" else weight_decay
  rows = 1 if per == "matrix" else len(w)

  def norms(w):
    return np.linalg.norm(w.reshape(rows, -1), axis=1, keepdims=True)

  first = norms(w)
  for t in range(1, steps + 1):
    g = gradient(t, w)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    adam = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
    w = w - learning_rate * (adam + decay * w)
    if kind == "matrix" and t % every == 0:
      w = (first / norms(w) * w.reshape(rows, -1)).reshape(w.shape)
  return w


def ngpt_adam(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  b1=0.9,
  b2=0.95,
  eps=1e-8,
  weight_decay=0.0,
):
  """`AdamW.step`, then `normalize_matrices` of NVIDIA/ngpt.

  `justnorm(x, dim)` with dim 1, or 0 for att_c_proj and mlp_c_proj, in the
  order n_proj, n_embd. Here n_embd is 6.
  """
  m = v = np.zeros_like(w)
  for t in range(1, steps + 1):
    g = gradient(t, w)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    adam = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
    decay = 0.0 if kind == "vector" else weight_decay
    w = w - learning_rate * (adam + decay * w)
    if kind != "vector":
      x = w.reshape(len(w), -1)
      dim = 0 if len(x) == 6 else 1
      w = (x / np.linalg.norm(x, axis=dim, keepdims=True)).reshape(w.shape)
  return w


_DECAYING = {"learning_rate": optax.linear_schedule(0.01, 0.0, 4000)}

CASES = (
  # A norm of the whole tree is in test_normalized_gd.
  Case(
    "normalized_gd",
    normalized_gd,
    like="adamw",
    variants=(
      {"per": "leaf"},
      {"per": "leaf", "eps": 0.5, "weight_decay": 0.3},
    ),
    # A norm of up to 120 terms, and two quotients.
    rounding=1e-6,
    convergence=_DECAYING,
  ),
  Case(
    "nap_adamw",
    nap_adamw,
    variants=({}, {"per": "unit", "every": 5, "weight_decay": 0.3}),
    # Adam's. The projection rounds the weights, not the step.
    rounding=4e-5,
    # The parabolas' matrices start at zero and would stay there.
    convergence={"dims": lambda params: jax.tree.map(lambda _: None, params)},
    # The norms of three matrices in float32.
    fixed_bytes=4 * 3,
    bad={
      "every": ((0, ValueError),),
      "vectors": (("some", ValueError),),
      "vector_decay": ((1.0, ValueError),),
    },
    silent={"vector_decay": 'acts where vectors="decay"'},
  ),
  Case(
    "ngpt_adam",
    ngpt_adam,
    like="nap_adamw",
    variants=({}, {"b1": 0.5, "b2": 0.9, "weight_decay": 0.3}),
    # Adam's. The projection rounds the weights, not the step.
    rounding=4e-5,
    # The parabolas' matrices start at zero, and end at no unit vectors.
    convergence={"dims": lambda params: jax.tree.map(lambda _: None, params)},
    bad={"writers": (("(", ValueError),)},
  ),
)
