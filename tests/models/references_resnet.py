"""Float64 NumPy transcriptions of whole residual networks with batch norm.

Images are (b, y, x, c). Parameters and statistics are nested dicts as
`normjax.nn.variables.split` gives them. `strides` are those of each
convolution of each block. New running statistics go to a dict by path.
"""

import numpy as np

MOMENTUM, EPS = 0.9, 1e-5


def conv(x, kernel, stride):
  """Zero padding of half the kernel; one product for each of its offsets."""
  size, half = kernel.shape[0], kernel.shape[0] // 2
  padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
  rows = range(0, x.shape[1], stride)
  columns = range(0, x.shape[2], stride)
  y = np.zeros((len(x), len(rows), len(columns), kernel.shape[3]))
  for dy, dx in np.ndindex(size, size):
    picked = padded[:, [row + dy for row in rows]]
    y += picked[:, :, [column + dx for column in columns]] @ kernel[dy, dx]
  return y


def relu(x):
  return np.where(x > 0, x, 0)


def max_pool(x):
  """3x3, stride 2, one row and column of padding."""
  wide = ((0, 0), (1, 1), (1, 1), (0, 0))
  padded = np.pad(x, wide, constant_values=-np.inf)
  height, width = (x.shape[1] + 1) // 2, (x.shape[2] + 1) // 2
  y = np.empty((len(x), height, width, x.shape[3]))
  for i, j in np.ndindex(height, width):
    window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
    y[:, i, j] = window.max((1, 2))
  return y


class BatchNorms:
  """Batch norm as in PyTorch, by the path of its site."""

  def __init__(self, params, stats, train):
    """`stats` of before; `new` gets those of after."""
    self.params, self.stats, self.train, self.new = params, stats, train, {}

  def __call__(self, x, *path):
    """The site's y."""
    params, stats = self.params, self.stats
    for key in path:
      params, stats = params[key], stats[key]
    mean, variance = stats["mean"], stats["var"]
    if self.train:
      rows = x.reshape(-1, x.shape[-1])
      mean, variance = rows.mean(0), rows.var(0)
      self.new[path] = {
        "mean": MOMENTUM * stats["mean"] + (1 - MOMENTUM) * mean,
        "var": MOMENTUM * stats["var"] + (1 - MOMENTUM) * rows.var(0, ddof=1),
      }
    normalized = (x - mean) / np.sqrt(variance + EPS)
    return normalized * params["scale"] + params["bias"]


def _padded(x, channels, stride):
  y = np.zeros((*x[:, ::stride, ::stride].shape[:3], channels))
  y[..., : x.shape[3]] = x[:, ::stride, ::stride]
  return y


def version_1(params, stats, x, strides, *, train, pools=False):
  """arXiv:1512.03385; returns (logits, new statistics by path)."""
  norm = BatchNorms(params, stats, train)
  x = conv(x, params["stem"]["conv"]["kernel"], 2 if pools else 1)
  x = relu(norm(x, "stem", "norm", "norm"))
  x = max_pool(x) if pools else x
  for index, block_strides in enumerate(strides):
    site = ("layers", str(index))
    block = params["layers"][str(index)]
    h = x
    for number, stride in enumerate(block_strides):
      h = conv(h, block["convs"][str(number)]["conv"]["kernel"], stride)
      h = norm(h, *site, "convs", str(number), "norm", "norm")
      h = relu(h) if number + 1 < len(block_strides) else h
    stride = np.prod(block_strides)
    if "project" in block:
      x = conv(x, block["project"]["conv"]["kernel"], stride)
      x = norm(x, *site, "project", "norm", "norm")
    else:
      x = _padded(x, h.shape[3], stride)
    x = relu(x + h)
  head = params["head"]
  return x.mean((1, 2)) @ head["kernel"] + head["bias"], norm.new


def version_2(params, stats, x, strides, *, train, pools=False):
  """arXiv:1603.05027.

  The first block's first activation is that after the stem (appendix); where
  a block changes the shape, the shortcut is of the activation.
  """
  norm = BatchNorms(params, stats, train)
  x = conv(x, params["stem"]["conv"]["kernel"], 2 if pools else 1)
  x = relu(norm(x, "stem", "norm", "norm"))
  x = max_pool(x) if pools else x
  for index, block_strides in enumerate(strides):
    site = ("layers", str(index))
    block = params["layers"][str(index)]
    stride = np.prod(block_strides)
    h = relu(norm(x, *site, "norm", "norm")) if index else x
    count = len(block_strides)
    outputs = block["convs"][str(count - 1)]["kernel"].shape[3]
    if "project" in block:
      x = conv(h, block["project"]["kernel"], stride)
    elif stride > 1 or outputs != x.shape[3]:
      x = _padded(h, outputs, stride)
    for number in range(count):
      if number:
        h = relu(norm(h, *site, "norms", str(number - 1), "norm"))
      kernel = block["convs"][str(number)]["kernel"]
      h = conv(h, kernel, block_strides[number])
    x = x + h
  x = relu(norm(x, "norm", "norm"))
  head = params["head"]
  return x.mean((1, 2)) @ head["kernel"] + head["bias"], norm.new


def fixup(params, x, strides):
  """`fixup_resnet_cifar.py` of hongyi-zhang/Fixup; returns the logits."""
  x = relu(conv(x, params["stem"]["kernel"], 1) + params["stem_bias"])
  for index, stride in enumerate(strides):
    p = params["layers"][str(index)]
    h = conv(x + p["before_1_bias"], p["conv_1"]["kernel"], stride)
    h = relu(h + p["after_1_bias"])
    h = conv(h + p["before_2_bias"], p["conv_2"]["kernel"], 1)
    h = h * p["scale"] + p["after_2_bias"]
    if stride > 1:
      # The bias is on the pixels that are left, not on the new zeros.
      x = _padded(x + p["before_1_bias"], h.shape[3], stride)
    x = relu(x + h)
  pooled = x.mean((1, 2)) + params["head_bias"]
  return pooled @ params["head"]["kernel"] + params["head"]["bias"]
