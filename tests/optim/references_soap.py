"""SOAP in float64 NumPy, of one matrix; see `references`."""

import numpy as np

from tests.optim.cases import Case


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


CASES = (
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
)
