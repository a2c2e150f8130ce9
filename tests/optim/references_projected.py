"""Float64 NumPy transcriptions of the methods that project on a basis.

In PyTorch's layout, as `references.py`, whose `run` says what the arguments
are. Each follows its official class line by line: the moments are kept as
these keep them.
"""

import numpy as np

from normjax.optim import draws
from tests.optim.cases import Case


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


def _low_rank(
  kind, w, gradient, steps, rank, gap, *, rate, b1, b2, eps, decay, step_of
):
  """What GaLore's and Fira's AdamW share; `step_of` is what they don't."""
  if kind != "matrix":
    return _vector_adam(
      w,
      gradient,
      steps,
      kind=kind,
      rate=rate,
      b1=b1,
      b2=b2,
      eps=eps,
      decay=decay,
    )
  shape = w.shape
  w = w.reshape(len(w), -1)
  tall = w.shape[0] >= w.shape[1]
  exp_avg = exp_avg_sq = 0.0
  before = None
  for step in range(steps):
    full = gradient(step + 1, w.reshape(shape)).reshape(w.shape)
    if step % gap == 0:
      ortho = basis(full)
      ortho = ortho[:rank] if tall else ortho[:, :rank]
      # What LAPACK leaves open, and the old moments make matter.
      if before is not None:
        inner = (ortho * before).sum(axis=1 if tall else 0, keepdims=True)
        ortho = np.where(inner < 0, -ortho, ortho)
      before = ortho
    grad = onto(full, ortho, tall)
    exp_avg = b1 * exp_avg + (1 - b1) * grad
    exp_avg_sq = b2 * exp_avg_sq + (1 - b2) * grad**2
    norm_grad = exp_avg / (np.sqrt(exp_avg_sq) + eps)
    first, second = 1 - b1 ** (step + 1), 1 - b2 ** (step + 1)
    norm_grad = step_of(full, grad, norm_grad, ortho, tall)
    w = w - rate * np.sqrt(second) / first * norm_grad
    if decay > 0:
      w = w - rate * decay * w
  return w.reshape(shape)


def galore(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  b1=0.9,
  b2=0.999,
  eps=1e-6,
  rank=128,
  update_proj_gap=200,
  scale=0.25,
  weight_decay=0.0,
):
  """`AdamW.step` and `GaLoreProjector` of jiaweizzhao/GaLore."""

  def step_of(full, grad, norm_grad, ortho, tall):
    del full, grad
    return scale * back(norm_grad, ortho, tall)

  return _low_rank(
    kind,
    w,
    gradient,
    steps,
    rank,
    update_proj_gap,
    rate=learning_rate,
    b1=b1,
    b2=b2,
    eps=eps,
    decay=weight_decay,
    step_of=step_of,
  )


def fira(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  b1=0.9,
  b2=0.999,
  eps=1e-6,
  rank=128,
  update_proj_gap=200,
  scale=0.25,
  residual="official",
  weight_decay=0.0,
):
  """`AdamW.step` and `GradientProjector` of xichen-fy/Fira."""
  state = {}

  def step_of(full, grad, norm_grad, ortho, tall):
    subgrad = back(grad, ortho, tall)
    if residual == "official":
      subgrad = scale * subgrad
    norm_dim = 0 if norm_grad.shape[0] < norm_grad.shape[1] else 1
    factor = np.linalg.norm(norm_grad, axis=norm_dim, keepdims=True)
    low = np.linalg.norm(grad, axis=norm_dim, keepdims=True)
    scaling_grad = (full - subgrad) * factor / (low + 1e-8)
    norm = np.linalg.norm(scaling_grad)
    if "norm" in state:
      limiter = max(norm / (state["norm"] + 1e-8), 1.01) / 1.01
      scaling_grad = scaling_grad / limiter
      norm = norm / limiter
    state["norm"] = norm
    return scale * back(norm_grad, ortho, tall) + scaling_grad

  return _low_rank(
    kind,
    w,
    gradient,
    steps,
    rank,
    update_proj_gap,
    rate=learning_rate,
    b1=b1,
    b2=b2,
    eps=eps,
    decay=weight_decay,
    step_of=step_of,
  )


def apollo(
  kind,
  w,
  gradient,
  steps,
  *,
  path,
  learning_rate,
  b1=0.9,
  b2=0.999,
  eps=1e-6,
  rank=128,
  update_proj_gap=200,
  scale=1.0,
  scale_type="channel",
  scale_front=False,
  limit_growth=True,
  seed=0,
  weight_decay=0.0,
):
  """`AdamW.step` and `GradientProjector` of zhuhanqing/APOLLO.

  The random matrices are normjax's: PyTorch's generator has others.
  """
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
  norm_dim = 1 if tall else 0
  side = min(w.shape)
  state = {}
  exp_avg = exp_avg_sq = 0.0
  for step in range(steps):
    full = gradient(step + 1, w.reshape(shape)).reshape(w.shape)
    if step % update_proj_gap == 0:
      drawn = draws.normal(
        path, (1, min(rank, side), side), step // update_proj_gap, seed=seed
      )
      drawn = np.asarray(drawn[0], np.float64) / np.sqrt(min(rank, side))
      ortho_matrix = drawn if tall else drawn.T
    grad = onto(full, ortho_matrix, tall)
    exp_avg = b1 * exp_avg + (1 - b1) * grad
    exp_avg_sq = b2 * exp_avg_sq + (1 - b2) * grad**2
    norm_grad = exp_avg / (np.sqrt(exp_avg_sq) + eps)
    if scale_type == "channel":
      factor = np.linalg.norm(norm_grad, axis=norm_dim, keepdims=True)
      low = np.linalg.norm(grad, axis=norm_dim, keepdims=True)
    else:
      factor, low = np.linalg.norm(norm_grad), np.linalg.norm(grad)
    scaled_grad = full * factor / (low + 1e-8)
    if scale_front:
      scaled_grad = scaled_grad * np.sqrt(scale)
    if limit_growth:
      norm = np.linalg.norm(scaled_grad)
      if "scaled_grad" in state:
        limiter = max(norm / (state["scaled_grad"] + 1e-8), 1.01) / 1.01
        scaled_grad = scaled_grad / limiter
        norm = norm / limiter
      state["scaled_grad"] = norm
    if not scale_front:
      scaled_grad = scaled_grad * np.sqrt(scale)
    first, second = 1 - b1 ** (step + 1), 1 - b2 ** (step + 1)
    w = w - learning_rate * np.sqrt(second) / first * scaled_grad
    w = w - learning_rate * weight_decay * w
  return w.reshape(shape)


def apollo_mini(kind, w, gradient, steps, *, path, scale=128.0, **options):
  """The same of rank 1, as the official scripts for "mini" run it."""
  return apollo(
    kind,
    w,
    gradient,
    steps,
    path=path,
    rank=1,
    scale=scale,
    scale_type="tensor",
    **options,
  )


# An SVD of sides up to 24 turns the basis by 24 u over the gap of two singular
# values, about 0.1; a coordinate of 0.1 of the largest then changes by ten
# times that.
TURNED = 1.5e-4
# 1 - 0.999^t at t = 1 as for Adam, in sums of 24 terms: their cancellation in
# P g amplifies u by 24 where a coordinate is 0.04 of the terms.
_SKETCHED = 4e-5

CASES = (
  Case(
    "galore",
    galore,
    variants=(
      {},
      {"rank": 3, "update_proj_gap": 3, "scale": 0.5, "weight_decay": 0.3},
    ),
    rounding=TURNED,
    bad={"bits": ((4, ValueError), ("8", ValueError))},
  ),
  Case(
    "conda",
    conda,
    like="galore",
    variants=(
      {},
      {"update_proj_gap": 3, "scale": 0.25, "b2": 0.99, "weight_decay": 0.3},
    ),
    rounding=TURNED,
  ),
  Case(
    "fira",
    fira,
    like="galore",
    variants=(
      {},
      {"rank": 3, "update_proj_gap": 3, "scale": 0.5, "weight_decay": 0.3},
      {"rank": 2, "update_proj_gap": 5, "residual": "orthogonal"},
    ),
    rounding=TURNED,
    bad={"residual": (("none", ValueError),)},
  ),
  Case(
    "apollo",
    apollo,
    like="galore",
    variants=(
      {},
      {"rank": 3, "update_proj_gap": 3, "scale": 0.5, "weight_decay": 0.3},
      {"rank": 2, "scale": 2.0, "scale_front": True, "seed": 7},
      {"rank": 2, "limit_growth": False, "scale_type": "tensor"},
    ),
    rounding=_SKETCHED,
    bad={"scale_type": (("row", ValueError),)},
  ),
  Case(
    "apollo_mini",
    apollo_mini,
    like="galore",
    variants=(
      {},
      {"update_proj_gap": 5, "scale_front": True, "weight_decay": 0.3},
    ),
    rounding=_SKETCHED,
  ),
)
