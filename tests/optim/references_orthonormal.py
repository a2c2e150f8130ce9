"""Float64 NumPy transcriptions of the relatives of Muon.

In PyTorch's layout, as `references.py`, whose `run` says what the arguments
are. A convolution is the matrix (out, in h w).
"""

import numpy as np

from normjax.optim import draws
from tests.optim import references
from tests.optim.cases import Case


def newton_schulz(g, steps):
  """`zeropower_via_newtonschulz5` of KellerJordan/Muon, in float64."""
  a, b, c = (3.4445, -4.7750, 2.0315)
  x = g.T if g.shape[0] > g.shape[1] else g
  x = x / (np.linalg.norm(x) + 1e-7)
  for _ in range(steps):
    gram = x @ x.T
    x = a * x + (b * gram + c * gram @ gram) @ x
  return x.T if g.shape[0] > g.shape[1] else x


def normuon(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  fallback_learning_rate=None,
  beta=0.95,
  b2=0.95,
  weight_decay=0.0,
  nesterov=True,
  scaling="spectral",
  ns_steps=5,
):
  """`normuon_update` and `SingleDeviceNorMuon` of zichongli5/NorMuon."""
  if kind != "matrix":
    return references.adamw(
      kind,
      w,
      gradient,
      steps,
      learning_rate=fallback_learning_rate or learning_rate,
      b2=0.95,
      eps=1e-10,
      weight_decay=weight_decay,
    )
  shape = w.shape
  w = w.reshape(len(w), -1)
  momentum, second_momentum = np.zeros_like(w), np.zeros((len(w), 1))
  for t in range(1, steps + 1):
    grad = gradient(t, w.reshape(shape)).reshape(w.shape)
    momentum = momentum + (1 - beta) * (grad - momentum)
    update = grad + beta * (momentum - grad) if nesterov else momentum
    update = newton_schulz(update, ns_steps)
    vnorm = np.linalg.norm(update)
    v_mean = np.mean(update * update, axis=-1, keepdims=True)
    second_momentum = second_momentum + (1 - b2) * (v_mean - second_momentum)
    update = update / (np.sqrt(second_momentum) + 1e-10)
    if scaling == "rms":
      # The algorithm of arXiv:2510.05491.
      update = 0.2 * np.sqrt(update.size) * update / np.linalg.norm(update)
    else:
      update = update * vnorm / (np.linalg.norm(update) + 1e-10)
      update = update * max(1, w.shape[0] / w.shape[1]) ** 0.5
    w = w * (1 - learning_rate * weight_decay)
    w = w - learning_rate * update
  return w.reshape(shape)


def dion(
  kind,
  w,
  gradient,
  steps,
  *,
  path,
  learning_rate,
  momentum=0.95,
  weight_decay=0.01,
  rank=768,
  rank_percent=None,
  seed=0,
):
  """`dion_update` of microsoft/dion's dion_simple.py.

  The first Q is normjax's: PyTorch's generator has others.
  """
  if kind != "matrix":
    return references.adamw(
      kind,
      w,
      gradient,
      steps,
      learning_rate=learning_rate,
      b2=0.95,
      weight_decay=weight_decay,
    )
  shape = w.shape
  x = w.reshape(len(w), -1)
  fan_out, fan_in = x.shape
  r = min(rank, *x.shape)
  if rank_percent is not None:
    r = int(np.ceil(rank_percent * min(x.shape) / 100))
  q = np.asarray(draws.normal(path, (fan_in, r), seed=seed), np.float64)
  if len(shape) == 4:
    # Drawn in the order (h, w, in).
    q = q.reshape(*shape[2:], shape[1], r).transpose(2, 0, 1, 3)
    q = q.reshape(fan_in, r)
  m = np.zeros_like(x)
  for t in range(1, steps + 1):
    m = m + gradient(t, x.reshape(shape)).reshape(x.shape)
    p, _ = np.linalg.qr(m @ q)
    rm = m.T @ p
    m = m - (1 - momentum) * p @ rm.T
    q = rm / (np.linalg.norm(rm, axis=0, keepdims=True) + 1e-8)
    x = x * (1 - weight_decay * learning_rate)
    x = x - learning_rate * (fan_out / fan_in) ** 0.5 * p @ q.T
  return x.reshape(shape)


CASES = (
  Case(
    "normuon",
    normuon,
    like="muon",
    variants=(
      {"fallback_learning_rate": 3e-3},
      {"scaling": "rms", "nesterov": False, "b2": 0.5, "weight_decay": 0.3},
    ),
    # As Muon; the division by v and the norms are smooth and of slope 1.
    rounding=1.2e-3,
  ),
  Case(
    "dion",
    dion,
    like="muon",
    variants=(
      {},
      {"rank_percent": 40, "momentum": 0.8, "weight_decay": 0.3, "seed": 7},
    ),
    # A QR of sums of 24 terms, where the reference's shortest column keeps
    # 0.021 of its length: 24 u / 0.021.
    rounding=7e-5,
    bad={"rank_percent": ((0, ValueError), (101, ValueError))},
  ),
)
