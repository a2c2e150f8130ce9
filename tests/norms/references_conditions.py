"""Float64 transcriptions of the norms that read a condition."""

import numpy as np


def _ids(x, context):
  return np.zeros(len(x), int) if context is None else np.asarray(context)


def _features(x, context, num_domains):
  if context is not None and np.asarray(context).dtype.kind == "f":
    return np.asarray(context)
  return np.eye(num_domains)[_ids(x, context)]


def _rows(values, x):
  return values.reshape(len(x), *[1] * (x.ndim - 2), -1)


def _kept(old, new, momentum):
  return momentum * old + (1 - momentum) * new


def dsbn(
  params,
  stats,
  x,
  *,
  train,
  num_domains,
  momentum,
  eps,
  running_variance,
  context=None,
  **_,
):
  """A batch norm for each domain, on its examples alone."""
  ids = _ids(x, context)
  y = np.empty_like(x)
  new = {name: values.copy() for name, values in stats.items()}
  for domain in range(num_domains):
    part = x[ids == domain]
    values = part.reshape(-1, x.shape[-1])
    mean, var = stats["mean"][domain], stats["var"][domain]
    if train and len(values) > 1:
      mean, var = values.mean(0), values.var(0)
      kept = values.var(0, ddof=int(running_variance == "unbiased"))
      new["mean"][domain] = _kept(stats["mean"][domain], mean, momentum)
      new["var"][domain] = _kept(stats["var"][domain], kept, momentum)
    normalized = (part - mean) / np.sqrt(var + eps)
    y[ids == domain] = (
      normalized * params["scale"][domain] + params["bias"][domain]
    )
  return y, new


def _modulated(params, x, s):
  if "hidden_kernel" in params:
    s = np.maximum(s @ params["hidden_kernel"] + params["hidden_bias"], 0)
  gain = params["scale"] + s @ params["gain_kernel"]
  offset = params["bias"] + s @ params["shift_kernel"]
  return x * _rows(gain, x) + _rows(offset, x)


def conditional_batch_norm(
  params,
  stats,
  x,
  *,
  train,
  num_domains,
  momentum,
  eps,
  running_variance,
  context=None,
  **_,
):
  """The statistics of all, scale and bias of each: arXiv:1707.00683."""
  mean, var, new = stats["mean"], stats["var"], dict(stats)
  if train:
    values = x.reshape(-1, x.shape[-1])
    mean, var = values.mean(0), values.var(0)
    kept = values.var(0, ddof=int(running_variance == "unbiased"))
    new["mean"] = _kept(stats["mean"], mean, momentum)
    new["var"] = _kept(stats["var"], kept, momentum)
  normalized = (x - mean) / np.sqrt(var + eps)
  s = _features(x, context, num_domains)
  return _modulated(params, normalized, s), new


def film(params, stats, x, *, num_domains, context=None, **_):
  """A gain and an offset of each example: arXiv:1709.07871."""
  return _modulated(params, x, _features(x, context, num_domains)), stats


def scenario_bn(
  params,
  stats,
  x,
  *,
  train,
  num_domains,
  normalized,
  momentum,
  eps,
  context=None,
  **_,
):
  """DSFNet's code, and with x normalised first."""
  new = dict(stats)

  def standardized(values, mean_name, var_name):
    mean, var = stats[mean_name], stats[var_name]
    if train:
      flat = values.reshape(-1, values.shape[-1])
      # Exact where all are alike, as they are in one scenario.
      mean = flat[0] + (flat - flat[0]).mean(0)
      var = np.square(flat - mean).mean(0)
      new[mean_name] = _kept(stats[mean_name], mean, momentum)
      new[var_name] = _kept(stats[var_name], var, momentum)
    return (values - mean) / np.sqrt(var + eps)

  n = standardized(x, "mean", "var") if normalized else x
  s = _features(x, context, num_domains)
  made = {}
  for part in ("gain", "offset"):
    own = {
      name: params[f"{part}_{name}"]
      for name in ("kernel", "bias", "scale", "shift", "out_kernel", "out_bias")
    }
    hidden = s @ own["kernel"] + own["bias"]
    hidden = standardized(hidden, f"{part}_mean", f"{part}_var")
    hidden = np.maximum(hidden * own["scale"] + own["shift"], 0)
    made[part] = _rows(hidden @ own["out_kernel"] + own["out_bias"], x)
  return n * made["gain"] + made["offset"], new
