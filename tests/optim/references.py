"""Float64 NumPy transcriptions, in PyTorch's layout as the papers' codes are.

`run` moves one leaf. Its `kind` says what a PyTorch user would pass it to:
"matrix" (out, in) or (out, in, h, w), "embedding" (vocab, dim), "head"
(out, in), "vector" (n,). `gradient(t, w)` is the gradient at step t = 1, 2, ….
"""

import numpy as np

from tests.optim.cases import Case

# Why AdamP's and SGDP's bound does nothing on the contract's small tree.
_TANGENT = "acts where a gradient is nearly tangent, as in the reference's test"

LAYOUTS = {
  # path: (shape in Flax, kind, to PyTorch, back)
  "layers/0/mlp/up/kernel": ((6, 10), "matrix", np.transpose, np.transpose),
  "layers/0/mlp/down/kernel": ((10, 6), "matrix", np.transpose, np.transpose),
  "layers/1/mlp/down/kernel": ((10, 6), "matrix", np.transpose, np.transpose),
  "layers/0/mlp/up/bias": ((10,), "vector", np.array, np.array),
  "layers/0/norm/scale": ((6,), "vector", np.array, np.array),
  "stem/conv/kernel": (
    (3, 2, 4, 5),
    "matrix",
    lambda w: w.transpose(3, 2, 0, 1),
    lambda w: w.transpose(2, 3, 1, 0),
  ),
  "layers/0/attention/query/kernel": (
    (6, 2, 4),
    "matrix",
    lambda w: w.reshape(6, 8).T,
    lambda w: w.T.reshape(6, 2, 4),
  ),
  "layers/0/attention/query/bias": (
    (2, 4),
    "vector",
    np.ravel,
    lambda w: w.reshape(2, 4),
  ),
  "layers/0/attention/out/kernel": (
    (2, 4, 6),
    "matrix",
    lambda w: w.reshape(8, 6).T,
    lambda w: w.T.reshape(2, 4, 6),
  ),
  "token/embedding": ((7, 6), "embedding", np.array, np.array),
  "head/kernel": ((6, 7), "head", np.transpose, np.transpose),
}


def adamw(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  b1=0.9,
  b2=0.999,
  eps=1e-8,
  weight_decay=1e-4,
):
  """Algorithm 2 of arXiv:1711.05101; vectors do not decay."""
  m = v = np.zeros_like(w)
  decay = 0.0 if kind == "vector" else weight_decay
  for t in range(1, steps + 1):
    g = gradient(t, w)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    adam = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
    w = w - learning_rate * (adam + decay * w)
  return w


def _newton_schulz(g, steps, coefficients):
  a, b, c = coefficients
  x = g / (np.linalg.norm(g) + 1e-7)
  if g.shape[0] > g.shape[1]:
    x = x.T
  for _ in range(steps):
    gram = x @ x.T
    x = a * x + (b * gram + c * gram @ gram) @ x
  return x.T if g.shape[0] > g.shape[1] else x


def muon(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  fallback_learning_rate=None,
  fallback_b1=0.9,
  fallback_b2=0.95,
  fallback_eps=1e-10,
  beta=0.95,
  weight_decay=0.0,
  nesterov=True,
  scaling="spectral",
  ns_steps=5,
):
  """`zeropower_via_newtonschulz5` and `muon_update` of KellerJordan/Muon."""
  if kind != "matrix":
    rate = (
      learning_rate
      if fallback_learning_rate is None
      else fallback_learning_rate
    )
    return adamw(
      kind,
      w,
      gradient,
      steps,
      learning_rate=rate,
      b1=fallback_b1,
      b2=fallback_b2,
      eps=fallback_eps,
      weight_decay=weight_decay,
    )
  buffer = np.zeros_like(w)
  for t in range(1, steps + 1):
    g = gradient(t, w)
    buffer = buffer + (1 - beta) * (g - buffer)
    update = g + beta * (buffer - g) if nesterov else buffer
    flat = update.reshape(len(update), -1)
    flat = _newton_schulz(flat, ns_steps, (3.4445, -4.7750, 2.0315))
    rows, columns = flat.shape
    if scaling == "spectral":
      flat = flat * max(1, rows / columns) ** 0.5
    else:
      flat = flat * 0.2 * max(rows, columns) ** 0.5
    w = w * (1 - learning_rate * weight_decay)
    w = w - learning_rate * flat.reshape(w.shape)
  return w


def sinkhorn(g, num_iters, first):
  """Algorithm 3 of arXiv:2502.06742, on PyTorch's (out, in)."""
  x = g.reshape(len(g), -1)
  m, n = x.shape
  for _ in range(num_iters):
    for side in (
      ("output", "reduction")
      if first == "output"
      else (
        "reduction",
        "output",
      )
    ):
      if side == "output":
        x = np.sqrt(n) * x / np.linalg.norm(x, axis=1, keepdims=True)
      else:
        x = np.sqrt(m) * x / np.linalg.norm(x, axis=0, keepdims=True)
  return x.reshape(g.shape)


def sinkgd(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  num_iters=5,
  matrix_scale=0.05,
  first="output",
  weight_decay=0.0,
):
  """Algorithm 4 of arXiv:2502.06742."""
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
    x = sinkhorn(gradient(t, w), num_iters, first)
    w = w - learning_rate * (matrix_scale * x + weight_decay * w)
  return w


def adamp_projection(w, g, p, delta, wd_ratio, eps):
  """`_projection` of clovaai/AdamP."""
  for rows in (len(w), 1):
    w_view, g_view = w.reshape(rows, -1), g.reshape(rows, -1)
    w_norm = np.linalg.norm(w_view, axis=1)
    g_norm = np.linalg.norm(g_view, axis=1)
    cosine = (w_view * g_view).sum(axis=1)
    cosine = cosine / np.maximum(w_norm, eps) / np.maximum(g_norm, eps)
    if np.abs(cosine).max() < delta / np.sqrt(w_view.shape[1]):
      unit = w_view / (w_norm[:, None] + eps)
      radial = unit * (unit * p.reshape(rows, -1)).sum(axis=1, keepdims=True)
      return p - radial.reshape(p.shape), wd_ratio
  return p, 1.0


def adamp(
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
  delta=0.1,
  wd_ratio=0.1,
  nesterov=False,
):
  """`AdamP.step` of clovaai/AdamP."""
  m = v = np.zeros_like(w)
  for t in range(1, steps + 1):
    g = gradient(t, w)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g * g
    denominator = np.sqrt(v) / np.sqrt(1 - b2**t) + eps
    p = (b1 * m + (1 - b1) * g if nesterov else m) / denominator
    ratio = 1.0
    if kind != "vector":
      p, ratio = adamp_projection(w, g, p, delta, wd_ratio, eps)
    w = w * (1 - learning_rate * weight_decay * ratio)
    w = w - learning_rate / (1 - b1**t) * p
  return w


def sgdp(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  momentum=0.0,
  dampening=0.0,
  weight_decay=0.0,
  delta=0.1,
  wd_ratio=0.1,
  nesterov=False,
  eps=1e-8,
  official_aliasing=False,
):
  """`SGDP.step` of clovaai/AdamP; without aliasing as timm's copy."""
  buffer = np.zeros_like(w)
  for t in range(1, steps + 1):
    g = gradient(t, w)
    buffer = momentum * buffer + (1 - dampening) * g
    step = g + momentum * buffer if nesterov else buffer
    ratio = 1.0
    if kind != "vector":
      step, ratio = adamp_projection(w, g, step, delta, wd_ratio, eps)
    if official_aliasing and not nesterov:
      buffer = step
    w = w * (1 - learning_rate * weight_decay * ratio / (1 - momentum))
    w = w - learning_rate * step
  return w


CASES = (
  Case(
    "adamw",
    adamw,
    variants=({}, {"b1": 0.5, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.3}),
    # 1 - 0.999^t at t = 1: u / 1e-3, halved by the root.
    rounding=4e-5,
  ),
  Case(
    "muon",
    muon,
    variants=(
      {"fallback_learning_rate": 3e-3},
      {"scaling": "moonlight", "nesterov": False, "weight_decay": 0.3},
    ),
    # Five steps of slope 3.4445 at 0 amplify an error of sums of 40 terms:
    # 3.4445^5 * 40 u.
    rounding=1.2e-3,
  ),
  Case(
    "sinkgd",
    sinkgd,
    like="muon",
    variants=(
      {},
      {"num_iters": 2, "first": "reduction", "weight_decay": 0.3},
    ),
    # Ten divisions by norms of up to 24 terms, and the fallback's Adam.
    rounding=4e-5,
    convergence={"matrix_scale": 0.5},
    bad={
      "first": (("rows", ValueError),),
      "impl": (("fast", ValueError),),
    },
  ),
  Case(
    "adamp",
    adamp,
    variants=(
      {"weight_decay": 0.3},
      {"weight_decay": 0.3, "nesterov": True, "delta": 0.5, "wd_ratio": 0.3},
    ),
    # As Adam but for the bias correction; sums of 120 terms in the projection.
    rounding=1e-5,
    silent={"delta": _TANGENT},
  ),
  Case(
    "sgdp",
    sgdp,
    like="adamp",
    variants=(
      {"momentum": 0.9, "weight_decay": 0.03, "nesterov": True},
      {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.03},
      {"momentum": 0.5, "weight_decay": 0.3, "official_aliasing": True},
    ),
    # Sums of 120 terms in the projection, over twelve steps of momentum.
    rounding=1e-5,
    silent={"delta": _TANGENT},
    bad={"dampening": ((-0.5, ValueError),)},
  ),
)
