"""Float64 NumPy transcriptions of the methods that project on a basis.

In PyTorch's layout, as `references.py`, whose `run` says what the arguments
are. Each follows its official class line by line: the moments are kept as
these keep them.
"""

import numpy as np


def _adam_step(w, u, m, v, t, *, rate, b1, b2, eps, decay, back):
  """From the gradient u to the weight, as all three classes do it."""
  m = b1 * m + (1 - b1) * u
  v = b2 * v + (1 - b2) * u * u
  step = rate * np.sqrt(1 - b2**t) / (1 - b1**t)
  w = w - step * back(m / (np.sqrt(v) + eps))
  return w - rate * decay * w, m, v


def _vector_adam(w, gradient, steps, *, kind, rate, b1, b2, eps, decay):
  m = v = np.zeros_like(w)
  for t in range(1, steps + 1):
    w, m, v = _adam_step(
      w,
      gradient(t, w),
      m,
      v,
      t,
      rate=rate,
      b1=b1,
      b2=b2,
      eps=eps,
      decay=0.0 if kind == "vector" else decay,
      back=lambda d: d,
    )
  return w


def basis(x):
  """`get_orthogonal_matrix` for "std": V^T if there are more rows, else U."""
  left, _, right = np.linalg.svd(x, full_matrices=False)
  return right if x.shape[0] >= x.shape[1] else left


def onto(x, ortho, tall):
  """`project`."""
  return x @ ortho.T if tall else ortho.T @ x


def back(y, ortho, tall):
  """`project_back` without its scale."""
  return y @ ortho if tall else ortho @ y


def conda(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  b1=0.9,
  b2=0.999,
  eps=1e-8,
  update_proj_gap=2000,
  scale=1.0,
  weight_decay=0.0,
):
  """`Conda.step` and `CondaProjector` of jie040109/Conda."""
  if kind != "matrix":
    return _vector_adam(
      w,
      gradient,
      steps,
      kind=kind,
      rate=learning_rate,
      b1=b1,
      b2=b2,
      eps=eps,
      decay=weight_decay,
    )
  shape = w.shape
  w = w.reshape(len(w), -1)
  tall = w.shape[0] >= w.shape[1]
  exp_avg, exp_avg_sq = np.zeros_like(w), np.zeros_like(w)
  ortho = None
  for step in range(steps):
    grad = gradient(step + 1, w.reshape(shape)).reshape(w.shape)
    exp_avg = b1 * exp_avg + (1 - b1) * grad
    if step % update_proj_gap == 0:
      ortho = basis(exp_avg)
    projected = onto(grad, ortho, tall)
    exp_avg_sq = b2 * exp_avg_sq + (1 - b2) * projected**2
    denominator = np.sqrt(exp_avg_sq) + eps
    first, second = 1 - b1 ** (step + 1), 1 - b2 ** (step + 1)
    direction = onto(exp_avg, ortho, tall) / denominator
    direction = scale * back(direction, ortho, tall)
    w = w - learning_rate * np.sqrt(second) / first * direction
    if weight_decay > 0:
      w = w - learning_rate * weight_decay * w
  return w.reshape(shape)
