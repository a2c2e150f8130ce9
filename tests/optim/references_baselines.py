"""Float64 NumPy transcriptions of the baselines; see `references`."""

import jax
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


def _modes(x, bases, axis):
  """Rotates x on each side that has a basis; `axis` of it is summed."""
  for side, q in enumerate(bases):
    if q is not None:
      x = np.moveaxis(np.tensordot(x, q, axes=(side, axis)), -1, side)
  return x


def soap(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  b1=0.95,
  b2=0.95,
  eps=1e-8,
  precondition_frequency=10,
  max_precond_dim=10000,
  weight_decay=0.01,
):
  """`SOAP.step` of nikhilvyas/SOAP, for a matrix (out, in)."""
  assert kind == "matrix"
  m, v = np.zeros_like(w), np.zeros_like(w)
  grams = [
    None if side > max_precond_dim else np.zeros((side, side))
    for side in w.shape
  ]
  bases = None
  for step in range(steps):  # The official state["step"].
    g = gradient(step + 1, w)
    if step > 0:
      projected = _modes(g, bases, 0)
      m = b1 * m + (1 - b1) * projected
      v = b2 * v + (1 - b2) * projected**2
      size = learning_rate * np.sqrt(1 - b2**step) / (1 - b1**step)
      w = w - size * _modes(m / (np.sqrt(v) + eps), bases, 1)
      w = w - learning_rate * weight_decay * w
      m = _modes(m, bases, 1)
    outer = g @ g.T, g.T @ g
    grams = [
      None if gram is None else b2 * gram + (1 - b2) * new
      for gram, new in zip(grams, outer, strict=True)
    ]
    if bases is None:
      bases = [
        None if gram is None else np.linalg.eigh(gram)[1][:, ::-1]
        for gram in grams
      ]
    elif step % precondition_frequency == 0:
      for side, gram in enumerate(grams):
        if gram is None:
          continue
        q = bases[side]
        order = np.argsort(-np.diag(q.T @ gram @ q), kind="stable")
        v = np.take(v, order, axis=side)
        bases[side] = np.linalg.qr(gram @ q[:, order])[0]
    if step > 0:
      m = _modes(m, bases, 0)
  return w


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
  # Its reference is of one matrix, in test_soap. It composes itself: the rate
  # waits for the bases.
  Case(
    "soap",
    # Gram matrix and basis in float32, of sides (8, 8), (8, 24) and (1, 1).
    fixed_bytes=4 * 2 * (64 + 64 + 64 + 576 + 1 + 1),
    keeps_whole=True,
    bad={
      "precondition_frequency": ((0, ValueError),),
      "max_precond_dim": ((-1, ValueError),),
    },
  ),
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
  # The projection is in test_sign_constrained.
  Case(
    "ei_sgd",
    ei_sgd,
    variants=({}, {"momentum": 0.5, "weight_decay": 0.3}),
    # Sums of twelve terms.
    rounding=1e-6,
    bad={"non_negative": (("some", ValueError),)},
  ),
)
