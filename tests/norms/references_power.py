"""PowerNorm and Unified Normalization in float64 NumPy, step by step.

After the official PyTorch code: `MaskPowerNorm` of sIncerass/powernorm at
9ea6226 and `UN1d` of hikvision-research/Unified-Normalization at 0ce9bf2. A
forward is `(params, stats, x, *, train, mask, **options)` to `(y, stats)`, a
backward `(variables, x, dy, *, mask, **options)` to the gradients with respect
to the parameters, the backward statistics (their new values) and x.
"""

import numpy as np


def _rows(x, mask):
  """The unpadded tokens."""
  if mask is None:
    return x.reshape(-1, x.shape[-1])
  return x[np.asarray(mask, bool)].reshape(-1, x.shape[-1])


def _over_tokens(a, mask=None):
  """All tokens, or the unpadded ones."""
  return _rows(a, mask)


def _hidden(a, mask):
  """The same, with zeros for padded tokens."""
  return a if mask is None else a * np.asarray(mask)[..., None]


def _group_roots(x, num_groups, eps):
  """The quadratic mean of every token's group, repeated over its channels."""
  roots = np.empty_like(x)
  size = x.shape[-1] // num_groups
  for group in range(num_groups):
    part = slice(group * size, (group + 1) * size)
    square = (x[..., part] ** 2).mean(-1, keepdims=True)
    roots[..., part] = np.sqrt(square + eps)
  return roots


def power_norm(
  params,
  stats,
  x,
  *,
  train,
  mask,
  num_groups,
  warmup_steps,
  forward_momentum,
  eps,
  **_,
):
  """`PowerFunction.forward` after `GroupScaling1D`."""
  h = x / _group_roots(x, num_groups, eps)
  phi, iters = stats["running_phi"], stats["steps"]
  if train:
    iters = iters + 1
    var = (_rows(h, mask) ** 2).mean(0)
    z = h / np.sqrt((var if iters <= warmup_steps else phi) + eps)
    if iters < warmup_steps:
      phi = phi * (iters - 1) / iters + var / iters
    phi = forward_momentum * phi + (1 - forward_momentum) * var
  else:
    z = h / np.sqrt(phi + eps)
  y = params["scale"] * z + params["bias"]
  return y, {"running_phi": phi, "steps": iters}


def power_norm_backward(
  variables,
  x,
  dy,
  *,
  mask,
  num_groups,
  warmup_steps,
  backward_momentum,
  eps,
  padding_in_gradient,
  **_,
):
  """`PowerFunction.backward`, then the derivative of `GroupScaling1D`."""
  seen = None if padding_in_gradient else mask
  params, stats = variables["params"], variables["stats"]
  ema_gz = variables["grad_stats"]["ema_gz"]
  roots = _group_roots(x, num_groups, eps)
  h = x / roots
  var = (_rows(h, mask) ** 2).mean(0)
  warm = stats["steps"] + 1 <= warmup_steps
  z = h / np.sqrt((var if warm else stats["running_phi"]) + eps)
  g = dy * params["scale"]
  approx = g - (1 - backward_momentum) * ema_gz * z
  ema_gz = ema_gz + _over_tokens(approx * z, seen).mean(0)
  dh = approx / np.sqrt(var + eps)
  dx = np.empty_like(x)
  size = x.shape[-1] // num_groups
  for group in range(num_groups):
    part = slice(group * size, (group + 1) * size)
    inner = (dh[..., part] * x[..., part]).sum(-1, keepdims=True)
    root = roots[..., part]
    dx[..., part] = dh[..., part] / root - x[..., part] * inner / (
      size * root**3
    )
  return {
    "params": {
      "scale": _over_tokens(dy * z, seen).sum(0),
      "bias": _over_tokens(dy, seen).sum(0),
    },
    "grad_stats": {"ema_gz": ema_gz},
    "x": _hidden(dx, seen),
  }


def _geometric_mean(values):
  """Along the first axis; 0 where a number is 0."""
  with np.errstate(divide="ignore"):
    return np.exp(np.log(values).mean(0))


def _unified(stats, x, mask, window, warmup_steps, outlier_filtration, eps):
  """`UN2dFunction.forward` up to z: (var, r, skip, buffer, iters, skips)."""
  size = window[0]
  iters, skips = stats["steps"] + 1, stats["skips"]
  running, buffer = stats["running_var"], stats["buffer_x2"].copy()
  skip = size == 1
  x2 = (_rows(x, mask) ** 2).mean(0)
  recorded = np.sqrt(buffer).var(ddof=1)
  buffer[iters % size] = x2
  if iters >= warmup_steps and outlier_filtration:
    gap = buffer.mean(0) - _geometric_mean(buffer)
    if (gap > recorded * size).any():
      buffer[iters % size] = running
      skip = True
      skips = skips + 1
  if iters <= size or iters < warmup_steps or skip:
    var = x2
  else:
    var = _geometric_mean(buffer)
  r = np.sqrt(var + eps) / np.sqrt(running + eps)
  if iters <= max(1000, warmup_steps) or skip:
    r = np.ones_like(r)
  else:
    r = np.clip(r, 1 / 5, 5)
  return var, r, skip, buffer, iters, skips


def unified_norm(
  params,
  stats,
  x,
  *,
  train,
  mask,
  window,
  warmup_steps,
  outlier_filtration,
  momentum,
  eps,
  **_,
):
  """`UN2dFunction.forward`."""
  var = stats["running_var"]
  if train:
    var, _, _, buffer, iters, skips = _unified(
      stats, x, mask, window, warmup_steps, outlier_filtration, eps
    )
    stats = {
      "running_var": momentum * stats["running_var"] + (1 - momentum) * var,
      "buffer_x2": buffer,
      "steps": iters,
      "skips": skips,
    }
  z = x / np.sqrt(var + eps)
  return params["scale"] * z + params["bias"], stats


def unified_norm_backward(
  variables,
  x,
  dy,
  *,
  mask,
  window,
  warmup_steps,
  outlier_filtration,
  momentum,
  eps,
  padding_in_gradient,
  **_,
):
  """`UN2dFunction.backward`."""
  seen = None if padding_in_gradient else mask
  ema_gz = variables["grad_stats"]["ema_gz"]
  buffer = variables["grad_stats"]["buffer_gz"].copy()
  var, r, skip, _, iters, _ = _unified(
    variables["stats"], x, mask, window, warmup_steps, outlier_filtration, eps
  )
  z = x / np.sqrt(var + eps)
  y = r * z
  g = dy * variables["params"]["scale"] * r
  gz = _over_tokens(g * z, seen).mean(0)
  buffer[iters % window[1]] = ema_gz if skip else gz
  if iters <= window[1] or iters < warmup_steps or skip:
    mean_gz = gz
  else:
    mean_gz = buffer.mean(0)
  ema_gz = momentum * ema_gz + (1 - momentum) * mean_gz
  approx = g - (mean_gz if skip else ema_gz) * z
  return {
    "params": {
      "scale": _over_tokens(dy * y, seen).sum(0),
      "bias": _over_tokens(dy, seen).sum(0),
    },
    "grad_stats": {"ema_gz": ema_gz, "buffer_gz": buffer},
    "x": _hidden(approx / np.sqrt(var + eps), seen),
  }
