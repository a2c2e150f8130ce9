"""Float64 NumPy transcriptions of the baselines; see `references`."""

import numpy as np
import optax

from tests.optim.cases import Case


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


def lamb(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  b1=0.9,
  b2=0.999,
  eps=1e-6,
  weight_decay=0.01,
):
  """Algorithm 2 of arXiv:1904.00962 with phi(z) = z; vectors do not decay."""
  m = v = np.zeros_like(w)
  decay = 0.0 if kind == "vector" else weight_decay
  for t in range(1, steps + 1):
    g = gradient(t, w)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    r = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * w
    w = w - learning_rate * np.linalg.norm(w) / np.linalg.norm(r) * r
  return w


def sgd(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  momentum=0.9,
  nesterov=False,
  weight_decay=0.0,
  decoupled=False,
):
  """`torch.optim.SGD`, or algorithm 1 of arXiv:1711.05101; all decay."""
  del kind
  buffer = None
  for t in range(1, steps + 1):
    g = gradient(t, w)
    if not decoupled:
      g = g + weight_decay * w
    # torch's first buffer is the gradient itself.
    buffer = g if buffer is None else momentum * buffer + g
    step = g + momentum * buffer if nesterov else buffer
    if decoupled:
      step = step + weight_decay * w
    w = w - learning_rate * step
  return w


def ei_sgd(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  momentum=0.9,
  weight_decay=5e-4,
):
  """The buffer is made of the first gradient, which is then added again."""
  del kind
  buffer = None
  for t in range(1, steps + 1):
    d = gradient(t, w) + weight_decay * w
    if buffer is None:
      buffer = d.copy()
    buffer = momentum * buffer + d
    w = w - learning_rate * buffer
  return w


def _rms(x):
  return np.sqrt(np.mean(x**2))


def adafactor(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  decay_rate=0.8,
  eps=1e-30,
  factored_axes=None,
  clipping_threshold=1.0,
  multiply_by_parameter_scale=True,
  min_parameter_scale=1e-3,
  momentum=0.0,
  weight_decay=0.0,
):
  """Algorithms 4 (factored) and 5 of arXiv:1804.04235, with its section 8."""
  m, v, rows, columns = np.zeros_like(w), 0.0, 0.0, 0.0
  decay = 0.0 if kind == "vector" else weight_decay
  for t in range(1, steps + 1):
    g = gradient(t, w)
    square = g**2 + eps
    beta = 1 - t**-decay_rate
    if factored_axes is None:
      v = beta * v + (1 - beta) * square
      u = g / np.sqrt(v)
    else:
      row_axis, column_axis = factored_axes
      row_sums = square.sum(axis=column_axis, keepdims=True)
      rows = beta * rows + (1 - beta) * row_sums
      column_sums = square.sum(axis=row_axis, keepdims=True)
      columns = beta * columns + (1 - beta) * column_sums
      u = g / np.sqrt(rows * columns / rows.sum(axis=row_axis, keepdims=True))
    u = u / max(1, _rms(u) / clipping_threshold)
    if multiply_by_parameter_scale:
      u = max(min_parameter_scale, _rms(w)) * u
    m = momentum * m + (1 - momentum) * u
    w = w - learning_rate * (m + decay * w)
  return w


_DECAYING = {"learning_rate": optax.linear_schedule(0.01, 0.0, 4000)}

CASES = (
  Case(
    "lion",
    lion,
    like="adamw",
    variants=({}, {"b1": 0.5, "b2": 0.8, "weight_decay": 0.3}),
    # A sign, exact unless the sum is rounded to the other side of 0.
    rounding=2e-7,
    convergence=_DECAYING,
  ),
  Case(
    "lamb",
    lamb,
    like="sgd",
    variants=({}, {"b1": 0.5, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.3}),
    # Adam's, and two norms of up to 120 terms.
    rounding=5e-5,
    convergence=_DECAYING,
  ),
  Case(
    "sgd",
    sgd,
    variants=(
      {},
      {"momentum": 0.5, "nesterov": True, "weight_decay": 0.3},
      {"weight_decay": 0.3, "decoupled": True},
    ),
    # Sums of twelve terms.
    rounding=1e-6,
  ),
  # The projection is in test_sign_constrained.
  Case(
    "ei_sgd",
    ei_sgd,
    variants=({}, {"momentum": 0.5, "weight_decay": 0.3}),
    # Sums of twelve terms.
    rounding=1e-6,
    bad={"non_negative": (("some", ValueError),)},
  ),
  Case(
    "adafactor",
    adafactor,
    like="adamw",
    variants=(
      {},
      {
        "momentum": 0.9,
        "clipping_threshold": 0.5,
        "multiply_by_parameter_scale": False,
        "weight_decay": 0.3,
      },
    ),
    # A power, a root, and two means of up to 120 terms: 30 u.
    rounding=2e-6,
    convergence=_DECAYING,
    bad={
      "decay_rate": ((-1.0, ValueError),),
      "clipping_threshold": ((-1.0, ValueError),),
      "min_dim_size_to_factor": ((0, ValueError),),
      "min_parameter_scale": ((-1.0, ValueError),),
    },
  ),
)
