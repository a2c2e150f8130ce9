"""Float64 NumPy transcriptions of the mixing methods, with full matrices.

Each takes (params, q, k, v) of one example, (t, h, k) and (s, g, k), and
returns (t, h, k); `visible` is (t, s).
"""

import math

import numpy as np


def rotate(x_thk, theta=10_000.0):
  """Rotary positions, pair by pair."""
  t, _, size = x_thk.shape
  out = np.empty_like(x_thk)
  half = size // 2
  for position in range(t):
    for i in range(half):
      angle = position * theta ** (-2 * i / size)
      first, second = x_thk[position, :, i], x_thk[position, :, half + i]
      out[position, :, i] = first * math.cos(angle) - second * math.sin(angle)
      out[position, :, half + i] = second * math.cos(angle) + first * math.sin(
        angle
      )
  return out


def _heads(k, h):
  """The key head of each query head."""
  return [i * k.shape[1] // h for i in range(h)]


def softmax(
  params, q, k, v, visible, *, scale=None, logit_cap=None, sink=None, impl=None
):
  del impl  # Who computes it.
  t, h, size = q.shape
  scale = np.broadcast_to(size**-0.5 if scale is None else scale, h)
  if "sink" in params:
    sink = params["sink"]
  elif sink is not None:
    sink = np.full(h, sink)
  out = np.zeros((t, h, v.shape[-1]))
  for head, shared in enumerate(_heads(k, h)):
    for row in range(t):
      scores = scale[head] * (k[:, shared] @ q[row, head])
      if logit_cap is not None:
        scores = logit_cap * np.tanh(scores / logit_cap)
      scores, values = scores[visible[row]], v[visible[row], shared]
      if sink is not None:
        scores = np.append(scores, sink[head])
        values = np.vstack([values, np.zeros(values.shape[1])])
      weights = np.exp(scores - scores.max())
      out[row, head] = weights @ values / weights.sum()
  return out


def softmax_off_by_one(params, q, k, v, visible, **options):
  return softmax(params, q, k, v, visible, sink=0.0, **options)


def _linear(fq, fk, v, visible, eps, rotated):
  def turn(x):
    if not rotated:
      return x
    half = x.shape[-1] // 2
    return np.concatenate([rotate(x[..., :half]), rotate(x[..., half:])], -1)

  t, h, _ = fq.shape
  turned_q, turned_k = turn(fq), turn(fk)
  out = np.zeros((t, h, v.shape[-1]))
  for head, shared in enumerate(_heads(fk, h)):
    for row in range(t):
      keys = np.flatnonzero(visible[row])
      n = len(keys)
      below = fq[row, head] @ fk[keys, shared].mean(axis=0)
      above = np.zeros(v.shape[-1])
      for s in keys:
        above += turned_q[row, head] @ turned_k[s, shared] * v[s, shared] / n
      out[row, head] = above / (below + eps)
  return out


def nalaformer(
  params, q, k, v, visible, *, power=3.0, eps=1e-6, rotated=False, **_
):
  """The official steps: cube, split by sign, divide, raise to the power."""
  norm = np.linalg.norm(q, axis=-1, keepdims=True)
  exponent = power * (0.5 + np.tanh(norm))
  fq = np.concatenate(
    [(np.maximum(sign * q, 0) / norm) ** exponent for sign in (1, -1)], -1
  )
  cubed = np.sign(k) * np.abs(k) ** power
  fk = np.concatenate([np.maximum(cubed, 0), np.maximum(-cubed, 0)], -1)
  return _linear(fq, fk, v, visible, eps, rotated)


def nalaformer_paper(
  params,
  q,
  k,
  v,
  visible,
  *,
  power=3.0,
  eps=1e-6,
  angle=np.pi / 4,
  rotated=False,
  **_,
):
  def features(x, magnitude):
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return np.concatenate(
      [magnitude * np.cos(angle * unit), magnitude * np.sin(angle * unit)], -1
    )

  norm = np.linalg.norm(q, axis=-1, keepdims=True)
  exponent = power * (0.5 + np.tanh(norm))
  fq = features(q, np.abs(q / norm) ** exponent)
  return _linear(fq, features(k, np.abs(k) ** power), v, visible, eps, rotated)


def gaussian(x, y):
  return np.exp(-0.5 * ((x[:, None] - y[None]) ** 2).sum(-1))


def soft(
  params,
  q,
  k,
  v,
  visible,
  *,
  normalize=True,
  ratio=2,
  grid=None,
  landmarks="conv",
  ridge=0.0,
  **_,
):
  """With the exact inverse; `visible` is the same in every row."""
  t, h, size = q.shape
  seen = visible[0]
  q = q / math.sqrt(math.sqrt(size))
  if grid is None:
    groups = [range(i, i + ratio) for i in range(0, t, ratio)]
  else:
    groups = [
      [
        (y + dy) * grid[1] + x + dx
        for dy in range(ratio)
        for dx in range(ratio)
      ]
      for y in range(0, grid[0], ratio)
      for x in range(0, grid[1], ratio)
    ]
  out = np.zeros((t, h, v.shape[-1]))
  for head in range(h):
    means = []
    for group in groups:
      rows = np.array([q[i, head] * seen[i] for i in group])
      if landmarks == "mean":
        means.append(rows.sum(0) / max(sum(seen[i] for i in group), 1))
        continue
      z = rows.ravel() @ params["landmark"]["kernel"]
      z = (z - z.mean()) / np.sqrt(z.var() + 1e-5)
      norm = params["landmark_norm"]
      z = z * norm["scale"] + norm["bias"]
      erf = np.array([math.erf(value / math.sqrt(2)) for value in z])
      means.append(0.5 * z * (1 + erf))
    means = np.array(means)
    k1, k2 = gaussian(q[:, head], means), gaussian(means, means)
    middle = np.linalg.inv(k2 + ridge * np.eye(len(k2)))
    if normalize:
      root = np.diag(k2.sum(1) ** -0.5)
      middle = root @ middle @ root
    out[:, head] = k1 @ middle @ (k1[seen].T @ v[seen, head])
  return out
