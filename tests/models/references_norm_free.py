"""Float64 NumPy transcription of deepmind-research/nfnets, one image at a time.

Loops over output pixels; parameters are nested dicts as
`normjax.nn.variables.split` gives them.
"""

import math

import numpy as np


def _silu(x):
  return 1.7881293296813965 * x / (1 + np.exp(-x))


def _gelu(x):
  inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
  return 1.7015043497085571 * 0.5 * x * (1 + np.tanh(inner))


def _windows(x, size, stride, fill):
  """(rows, columns, size, size, channels), padded as TensorFlow's SAME."""
  outs = [-(-n // stride) for n in x.shape[:2]]
  totals = [
    max((out - 1) * stride + size - n, 0)
    for out, n in zip(outs, x.shape[:2], strict=True)
  ]
  pads = [(total // 2, total - total // 2) for total in totals]
  padded = np.pad(x, (*pads, (0, 0)), constant_values=fill)
  return np.stack(
    [
      np.stack(
        [
          padded[r : r + size, c : c + size]
          for c in range(0, outs[1] * stride, stride)
        ]
      )
      for r in range(0, outs[0] * stride, stride)
    ]
  )


def ws_conv(x, params, stride=1, groups=1):
  """WSConv2D: floor of 1e-4 under var * fan_in, gain, bias."""
  w, gain = params["kernel"], params["weight_norm"]["gain"]
  size, _, inputs, outputs = w.shape
  y = np.zeros((-(-x.shape[0] // stride), -(-x.shape[1] // stride), outputs))
  for o in range(outputs):
    filter_ = w[..., o]
    fan_in = filter_.size
    var = np.mean((filter_ - filter_.mean()) ** 2)
    scaled = (filter_ - filter_.mean()) / math.sqrt(max(var * fan_in, 1e-4))
    group = o // (outputs // groups)
    seen = _windows(
      x[..., group * inputs : (group + 1) * inputs], size, stride, 0.0
    )
    y[..., o] = np.sum(seen * scaled * gain[o], axis=(2, 3, 4))
  # The stem of NF-ResNets has none.
  return y + params.get("bias", 0.0)


def _max_pool(x):
  return _windows(x, 3, 2, -np.inf).max(axis=(2, 3))


def _avg_pool(x):
  """Haiku's: over what is inside the image."""
  ones = _windows(np.ones_like(x), 2, 2, 0.0).sum(axis=(2, 3))
  return _windows(x, 2, 2, 0.0).sum(axis=(2, 3)) / ones


def _gate(x, params):
  h = x.mean(axis=(0, 1))
  h = h @ params["squeeze"]["kernel"] + params["squeeze"]["bias"]
  h = np.maximum(h, 0) @ params["excite"]["kernel"] + params["excite"]["bias"]
  return 1 / (1 + np.exp(-h))


def _block(x, params, act, beta, alpha, stride, groups, pools):
  out = act(x) * beta
  shortcut = x
  if "conv_shortcut" in params:
    shortcut = _avg_pool(out) if pools and stride > 1 else out
    shortcut = ws_conv(
      shortcut, params["conv_shortcut"], 1 if pools else stride
    )
  out = ws_conv(out, params["conv_in"])
  for index in range(len(params["conv_inner"])):
    inner = params["conv_inner"][str(index)]
    out = ws_conv(act(out), inner, 1 if index else stride, groups)
  out = ws_conv(act(out), params["conv_out"])
  if "gate" in params:
    out = _gate(out, params["gate"]) * 2 * out
  return out * params["skip_gain"] * alpha + shortcut


def _network(x, params, act, strides, depths, alpha, groups, pools):
  """`groups` by stage. The stream's expected_std as the official loop has."""
  std, index = 1.0, 0
  for stage, depth in enumerate(depths):
    for block_index in range(depth):
      stride = strides[stage] if block_index == 0 else 1
      block = params["layers"][str(index)]
      x = _block(x, block, act, 1 / std, alpha, stride, groups[stage], pools)
      index += 1
      if block_index == 0:
        std = 1.0
      std = (std**2 + alpha**2) ** 0.5
  if "conv_final" in params:
    x = ws_conv(x, params["conv_final"])
  pool = act(x).mean(axis=(0, 1))
  return pool @ params["head"]["kernel"] + params["head"]["bias"]


def nf_resnet(params, x, depths, alpha=0.2):
  """`NF_ResNet.__call__` in evaluation, SiLU."""
  x = _max_pool(ws_conv(x, params["stem"]["convs"]["0"], 2))
  ones = [1] * len(depths)
  return _network(x, params, _silu, [1, 2, 2, 2], depths, alpha, ones, False)


def cifar_nf_resnet(params, x, depths, alpha=0.2):
  """The same with a stem for small images."""
  x = ws_conv(x, params["stem"]["convs"]["0"])
  ones = [1] * len(depths)
  return _network(x, params, _silu, [1, 2, 2], depths, alpha, ones, False)


def nfnet(params, x, depths, groups, alpha=0.2):
  """`NFNet.__call__` in evaluation, GELU."""
  for index, stride in enumerate((2, 1, 1, 2)):
    x = _gelu(x) if index else x
    x = ws_conv(x, params["stem"]["convs"][str(index)], stride)
  return _network(x, params, _gelu, [1, 2, 2, 2], depths, alpha, groups, True)
