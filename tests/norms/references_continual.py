"""Norms of continual learning in float64 NumPy, from the official code.

github.com/lvyilin/AdaB2N (MIT licence). A forward is `(params, stats, x, *,
train, mask, **options)` to `(y, stats)`.
"""

import numpy as np

from tests.norms import references_vision


def _eta(step, kappa, m):
  """The official recursion."""
  eta = m**kappa
  for _ in range(step - 1):
    eta = eta / (eta + (1 - m) ** kappa)
  return eta


def adab2n(params, stats, x, *, train, mask, kappa, momentum, eps, **_):
  """Without tasks: `AdaB2N.forward` where no counts were set."""
  mean, var = stats["mean"], stats["var"]
  if train:
    rows = x if mask is None else x[np.asarray(mask, bool)]
    rows = rows.reshape(-1, x.shape[-1])
    mean = rows.sum(0) / len(rows)
    var = ((rows - mean) ** 2).sum(0) / len(rows)
    eta = _eta(int(stats["steps"]) + 1, kappa, 1 - momentum)
    moved = {
      "mean": stats["mean"] + eta * (mean - stats["mean"]),
      "var": (1 - eta) * stats["var"] + eta * var,
    }
    penalty = np.mean((mean - moved["mean"]) ** 2)
    penalty += np.mean((var - moved["var"]) ** 2)
    steps = stats["steps"] + np.int32(1)
    stats = {**moved, "steps": steps, "penalty": np.asarray(penalty)}
  y = (x - mean) / np.sqrt(var + eps)
  return y * params["scale"] + params["bias"], stats


def cn(params, stats, x, *, train, mask, num_groups, momentum, eps, **_):
  """`_CN.forward`: two of PyTorch's norms in a row."""
  ones = {"scale": 1.0, "bias": 0.0}
  h, _ = references_vision.group_norm(
    ones, {}, x, num_groups=num_groups, eps=eps, train=train, mask=mask
  )
  mean, var = stats["mean"], stats["var"]
  if train:
    rows = h if mask is None else h[np.asarray(mask, bool)]
    rows = rows.reshape(-1, x.shape[-1])
    mean, var = rows.mean(0), rows.var(0)
    kept = {"mean": mean, "var": rows.var(0, ddof=1)}
    stats = {
      name: momentum * stats[name] + (1 - momentum) * kept[name]
      for name in kept
    }
  y = (h - mean) / np.sqrt(var + eps)
  return y * params.get("scale", 1) + params.get("bias", 0), stats
