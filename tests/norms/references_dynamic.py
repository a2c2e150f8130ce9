"""Norms with a dynamic or bounded gain in float64 NumPy, from their formulas.

As in `references`: (params, stats, x, **options) to (y, stats).
"""

import numpy as np

from tests.norms import references_basics


def seednorm(params, stats, x, *, num_heads, eps, dot_divisor, **_):
  """arXiv:2510.22777: token by token and head by head."""
  y = np.empty_like(x)
  size = x.shape[-1] // num_heads
  divisor = {"none": 1.0, "features": x.shape[-1], "head_features": size}
  for index in np.ndindex(x.shape[:-1]):
    token = x[index]
    rms = np.sqrt(token @ token / len(token) + eps)
    for head in range(num_heads):
      own = slice(head * size, (head + 1) * size)
      u = token[own] @ params["beta"][own] / divisor[dot_divisor]
      decay = np.exp(-2 * abs(u))
      tanh = np.sign(u) * (1 - decay) / (1 + decay)
      gain = tanh * params["alpha"][own] + params["scale"][own]
      y[index][own] = gain * token[own] / rms
  return y, stats


def pre_affine(params, stats, x, *, eps, **_):
  """arXiv:2601.22966, section 3.3."""
  scaled = x @ np.diag(params["lam"])
  return references_basics.rms_norm(
    params,
    stats,
    scaled,
    eps=eps,
    zero_centered=False,
    eps_placement="inside",
    partial=1.0,
  )


def gated_norm(params, stats, x, *, gate_init, inner, **_):
  """arXiv:2601.22966, section 3.4."""
  y, _ = INNER[inner.name](params, stats, x, **inner.options)
  hidden = np.einsum("...d,dr->...r", y, params["gate_down"])
  swish = hidden / (1 + np.exp(-hidden))
  gate = 1 / (1 + np.exp(-np.einsum("...r,rd->...d", swish, params["gate_up"])))
  return y * gate * (2 if gate_init == "one" else 1), stats


INNER = {"rms_norm": references_basics.rms_norm, "dyt": references_basics.dyt}


def bhyt(params, stats, x, *, kappa, eps, **_):
  """arXiv:2601.09719 with the exact variance at every site."""
  s = np.sqrt(np.einsum("...d,...d->...", x, x) / x.shape[-1] + eps)
  argument = params["lam"] / (kappa * s[..., None]) * x
  growth = np.exp(2 * argument)
  return params["scale"] * (growth - 1) / (growth + 1), stats
