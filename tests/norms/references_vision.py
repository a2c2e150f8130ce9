"""Norms of images in float64 NumPy, image by image and channel by channel.

Written from the papers and, where a docstring names one, official code. Images
are (b, y, x, c). A forward is `(params, stats, x, *, train, mask, **options)`
to `(y, stats)`.
"""

import math

import numpy as np


def _groups(channels, num_groups):
  """The channels of each group, as slices."""
  size = channels // num_groups
  return [slice(g * size, (g + 1) * size) for g in range(num_groups)]


def group_norm(params, stats, x, *, num_groups, eps, **_):
  """arXiv:1803.08494, equations 1 to 7."""
  y = np.empty_like(x)
  for image, out in zip(x, y, strict=True):
    for group in _groups(x.shape[-1], num_groups):
      part = image[:, :, group]
      mu = part.sum() / part.size
      variance = ((part - mu) ** 2).sum() / part.size
      out[:, :, group] = (part - mu) / np.sqrt(variance + eps)
  return y * params["scale"] + params["bias"], stats


def instance_norm(params, stats, x, *, eps, **_):
  """arXiv:1607.08022, equation 4."""
  y = np.empty_like(x)
  for image, channel in np.ndindex(x.shape[0], x.shape[3]):
    part = x[image, :, :, channel]
    mu = part.sum() / part.size
    variance = ((part - mu) ** 2).sum() / part.size
    y[image, :, :, channel] = (part - mu) / np.sqrt(variance + eps)
  return y * params.get("scale", 1) + params.get("bias", 0), stats


def frn(params, stats, x, *, eps, **_):
  """arXiv:1911.09737: no mean, and a learned threshold behind it."""
  y = np.empty_like(x)
  for image, channel in np.ndindex(x.shape[0], x.shape[3]):
    part = x[image, :, :, channel]
    nu2 = (part**2).sum() / part.size
    root = np.sqrt(nu2 + eps + abs(params.get("eps_l", 0)))
    y[image, :, :, channel] = part / root
  y = y * params["scale"] + params["bias"]
  return np.maximum(y, params.get("tau", -np.inf)), stats


def _rows(x, mask):
  """What is real, (values, c)."""
  if mask is None:
    return x.reshape(-1, x.shape[-1])
  return x[np.asarray(mask, bool)].reshape(-1, x.shape[-1])


def _renorm(stats, x, mask, options):
  """mu_B, sigma_B, r and d of arXiv:1702.03275, algorithm 1."""
  rows = _rows(x, mask)
  mu = rows.sum(0) / len(rows)
  sigma = np.sqrt(((rows - mu) ** 2).sum(0) / len(rows) + options["eps"])
  t, begin = stats["steps"] + 1, options["warmup_steps"]
  bounds = np.interp(t, [begin, options["r_max_steps"]], [1, options["r_max"]])
  r = np.clip(sigma / stats["std"], 1 / bounds, bounds)
  bounds = np.interp(t, [begin, options["d_max_steps"]], [0, options["d_max"]])
  d = np.clip((mu - stats["mean"]) / stats["std"], -bounds, bounds)
  return mu, sigma, r, d


def batch_renorm(params, stats, x, *, train, mask, momentum, **options):
  """arXiv:1702.03275, algorithm 1, and its inference."""
  if not train:
    y = (x - stats["mean"]) / stats["std"]
    return y * params["scale"] + params["bias"], stats
  mu, sigma, r, d = _renorm(stats, x, mask, options)
  y = (x - mu) / sigma * r + d
  stats = {
    "mean": stats["mean"] + (1 - momentum) * (mu - stats["mean"]),
    "std": stats["std"] + (1 - momentum) * (sigma - stats["std"]),
    "steps": stats["steps"] + np.int32(1),
  }
  return y * params["scale"] + params["bias"], stats


def batch_renorm_backward(variables, x, dy, *, mask, **options):
  """The paper's backward pass, in which r and d are constants."""
  mu, sigma, r, d = _renorm(variables["stats"], x, mask, options)
  axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
  normalized = (x - mu) / sigma * r + d
  g = dy * variables["params"]["scale"]
  dsigma = (g * (x - mu) * -r / sigma**2).sum(axes)
  dmu = (g * -r / sigma).sum(axes)
  dx = g * r / sigma + dsigma * (x - mu) / (count * sigma) + dmu / count
  return {
    "params": {"scale": (dy * normalized).sum(axes), "bias": dy.sum(axes)},
    "grad_stats": {},
    "x": dx,
  }


def _image_statistic(x, of):
  """`of` every channel of every image, as large as x."""
  result = np.empty_like(x)
  for image, channel in np.ndindex(x.shape[0], x.shape[3]):
    result[image, :, :, channel] = of(x[image, :, :, channel])
  return result


def _evonorm_b(second, params, stats, x, train, mask, options):
  """`EvoNorm2dB*` of timm 1.0.31, with the momentum of the old value."""
  var = stats["var"]
  if train:
    rows = _rows(x, mask)
    var = rows.var(0)
    unbiased = options["running_variance"] == "unbiased"
    kept = rows.var(0, ddof=int(unbiased))
    momentum = options["momentum"]
    stats = {"var": momentum * stats["var"] + (1 - momentum) * kept}
  left = np.sqrt(var + options["eps"])
  return x / np.maximum(left, second) * params["scale"] + params["bias"], stats


def evonorm_b0(params, stats, x, *, train, mask, eps, **options):
  """And `evonorm_b0` of the official resnet_model.py."""
  right = _image_statistic(x, lambda part: np.sqrt(part.var() + eps))
  right = params["v"] * x + right
  options = {**options, "eps": eps}
  return _evonorm_b(right, params, stats, x, train, mask, options)


def evonorm_b1(params, stats, x, *, train, mask, eps, **options):
  """As in timm: B1."""
  power = _image_statistic(x, lambda part: np.sqrt((part**2).mean() + eps))
  options = {**options, "eps": eps}
  return _evonorm_b((x + 1) * power, params, stats, x, train, mask, options)


def evonorm_b2(params, stats, x, *, train, mask, eps, **options):
  """As in timm: B2."""
  power = _image_statistic(x, lambda part: np.sqrt((part**2).mean() + eps))
  options = {**options, "eps": eps}
  return _evonorm_b(power - x, params, stats, x, train, mask, options)


def _evonorm_s(v, of, params, stats, x, num_groups, eps):
  """`EvoNorm2dS*` of timm 1.0.31."""
  y = np.empty_like(x)
  swish = x / (1 + np.exp(-v * x))
  for image in range(len(x)):
    for group in _groups(x.shape[-1], num_groups):
      root = np.sqrt(of(x[image][:, :, group]) + eps)
      y[image][:, :, group] = swish[image][:, :, group] / root
  return y * params["scale"] + params["bias"], stats


def evonorm_s0(params, stats, x, *, num_groups, eps, **_):
  """And `evonorm_s0` of the official resnet_model.py."""
  return _evonorm_s(params["v"], np.var, params, stats, x, num_groups, eps)


def evonorm_s1(params, stats, x, *, num_groups, eps, **_):
  """As in timm: S1."""
  return _evonorm_s(1, np.var, params, stats, x, num_groups, eps)


def evonorm_s2(params, stats, x, *, num_groups, eps, nonlinearity, **_):
  """As in timm: S2."""
  if not nonlinearity:
    return x * params["scale"] + params["bias"], stats

  def power(part):
    return (part**2).mean()

  return _evonorm_s(1, power, params, stats, x, num_groups, eps)


def switchable_norm(params, stats, x, *, train, mask, momentum, eps, **_):
  """`SwitchNorm2d` of the official code at 5472286."""
  mean_in, var_in = np.empty((2, len(x), x.shape[-1]))
  for image, channel in np.ndindex(mean_in.shape):
    mean_in[image, channel] = x[image, :, :, channel].mean()
    var_in[image, channel] = x[image, :, :, channel].var(ddof=1)
  temp = var_in + mean_in**2
  mean_ln = mean_in.mean(1, keepdims=True)
  var_ln = temp.mean(1, keepdims=True) - mean_ln**2
  mean_bn, var_bn = stats["mean"], stats["var"]
  if train:
    real = slice(None) if mask is None else np.asarray(mask, bool)
    mean_bn = mean_in[real].mean(0)
    var_bn = temp[real].mean(0) - mean_bn**2
    stats = {
      "mean": momentum * stats["mean"] + (1 - momentum) * mean_bn,
      "var": momentum * stats["var"] + (1 - momentum) * var_bn,
    }
  a, b = (
    np.exp(params[name]) / np.exp(params[name]).sum()
    for name in ("mean_weight", "var_weight")
  )
  mean = a[0] * mean_in + a[1] * mean_ln + a[2] * mean_bn
  var = b[0] * var_in + b[1] * var_ln + b[2] * var_bn
  y = (x - mean[:, None, None]) / np.sqrt(var + eps)[:, None, None]
  return y * params["scale"] + params["bias"], stats


def _bcn_moments(stats, x, train, mask, estimated, update_rate):
  """Mean and variance of the first stage, and the new running ones."""
  mean, var = stats["mean"], stats["var"]
  if not train:
    return mean, var, stats
  rows, keep = _rows(x, mask), 1 - update_rate
  batch_mean = rows.mean(0)
  if estimated:
    about_old = ((rows - mean) ** 2).mean(0)
    mean = keep * mean + update_rate * batch_mean
    var = keep * var + update_rate * about_old
    return mean, var, {"mean": mean, "var": var}
  new = {
    "mean": keep * mean + update_rate * batch_mean,
    "var": keep * var + update_rate * rows.var(0, ddof=1),
  }
  return batch_mean, rows.var(0), new


def _bcn_stages(variables, x, train, mask, num_groups, estimated, rate, eps):
  """After each stage, both before their gains; the roots; the statistics."""
  params = variables["params"]
  mean, var, stats = _bcn_moments(
    variables["stats"], x, train, mask, estimated, rate
  )
  z = (x - mean) / np.sqrt(var + eps)
  h = z * params["scale"] + params["bias"]
  normalized, roots = np.empty_like(h), np.empty_like(h)
  for image in range(len(x)):
    for group in _groups(x.shape[-1], num_groups):
      part = h[image][:, :, group]
      root = np.sqrt(part.var() + eps)
      normalized[image][:, :, group] = (part - part.mean()) / root
      roots[image][:, :, group] = root
  return z, np.sqrt(var + eps), normalized, roots, stats


def bcn(
  params, stats, x, *, train, mask, num_groups, estimated, update_rate, eps
):
  """The official layers.py and README at 0244c3e."""
  *_, y, _, stats = _bcn_stages(
    {"params": params, "stats": stats},
    x,
    train,
    mask,
    num_groups,
    estimated,
    update_rate,
    eps,
  )
  size = x.shape[-1] // num_groups
  gain, offset = (
    np.repeat(params[name], size) for name in ("group_scale", "group_bias")
  )
  return y * gain + offset, stats


def bcn_backward(
  variables, x, dy, *, mask, num_groups, estimated, update_rate, eps
):
  """By hand; estimated statistics are constants."""
  params = variables["params"]
  z, first_root, normalized, roots, _ = _bcn_stages(
    variables, x, True, mask, num_groups, estimated, update_rate, eps
  )
  axes, size = (0, 1, 2), x.shape[-1] // num_groups
  g = dy * np.repeat(params["group_scale"], size)
  dh = np.empty_like(g)
  for image in range(len(x)):
    for group in _groups(x.shape[-1], num_groups):
      part, n = g[image][:, :, group], normalized[image][:, :, group]
      inner = part - part.mean() - n * (part * n).mean()
      dh[image][:, :, group] = inner / roots[image][:, :, group]
  dz = dh * params["scale"]
  if not estimated:
    dz = dz - dz.mean(axes) - z * (dz * z).mean(axes)
  return {
    "params": {
      "scale": (dh * z).sum(axes),
      "bias": dh.sum(axes),
      "group_scale": (dy * normalized)
      .sum(axes)
      .reshape(num_groups, size)
      .sum(1),
      "group_bias": dy.sum(axes).reshape(num_groups, size).sum(1),
    },
    "grad_stats": {},
    "x": dz / first_root,
  }


def adain(
  params,
  stats,
  x,
  *,
  style_weight,
  content_weight,
  eps,
  eps_placement,
  variance,
  style=None,
  **_,
):
  """arXiv:1703.06868, equation 8, and AttenST's content-aware form."""
  del params
  y = np.empty_like(x)
  for image, channel in np.ndindex(x.shape[0], x.shape[3]):
    part = x[image, :, :, channel]
    mean, var = part.mean(), part.var(ddof=int(variance == "unbiased"))
    outside = eps_placement == "outside"
    root = np.sqrt(var) + eps if outside else np.sqrt(var + eps)
    style_mean, style_std = (
      (0, 1) if style is None else style[:, image, channel]
    )
    std = style_weight * style_std + content_weight * np.sqrt(var)
    shift = style_weight * style_mean + content_weight * mean
    y[image, :, :, channel] = (part - mean) / root * std + shift
  return y, stats


def iabn(
  params, stats, x, *, train, mask, threshold, momentum, eps, skip_positions
):
  """arXiv:2208.05117, section 3.1, variances unbiased as in its code."""
  mean, var = stats["mean"], stats["var"]
  if train:
    rows = _rows(x, mask)
    mean, var = rows.mean(0), rows.var(0, ddof=1)
    stats = {
      "mean": momentum * stats["mean"] + (1 - momentum) * mean,
      "var": momentum * stats["var"] + (1 - momentum) * var,
    }
  y = np.empty_like(x)
  for index, (example, out) in enumerate(zip(x, y, strict=True)):
    rows = _rows(example, None)
    if mask is not None and np.ndim(mask) > 1:
      rows = _rows(example, mask[index])
    mu, square = mean, var
    if len(rows) > 1 and math.prod(x.shape[1:-1]) > skip_positions:
      far = rows.mean(0) - mean
      limit = threshold * np.sqrt((var + eps) / len(rows))
      mu = mean + np.sign(far) * np.maximum(np.abs(far) - limit, 0)
      far = rows.var(0, ddof=1) - var
      limit = threshold * (var + eps) * np.sqrt(2 / (len(rows) - 1))
      square = var + np.sign(far) * np.maximum(np.abs(far) - limit, 0)
      square = np.maximum(square, 0)
    out[...] = (example - mu) / np.sqrt(square + eps)
  return y * params["scale"] + params["bias"], stats
