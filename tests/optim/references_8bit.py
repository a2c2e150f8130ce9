"""bitsandbytes' optimizers: float64 where nothing is quantised, and blocks.

The transcriptions without blocks move leaves below the least size, which keep
32-bit states. `quantize` and `dequantize` follow the kernels in float32.
"""

import numpy as np


def adam(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  b1=0.9,
  b2=0.999,
  eps=1e-8,
  weight_decay=0.0,
):
  """Adam8bit: every leaf decays, by the weight that has moved."""
  del kind
  m = v = np.zeros_like(w)
  for t in range(1, steps + 1):
    g = gradient(t, w)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g * g
    correction1, correction2 = 1 - b1**t, np.sqrt(1 - b2**t)
    step_size = -learning_rate * correction2 / correction1
    w = w + step_size * (m / (np.sqrt(v) + correction2 * eps))
    w = w * (1 - learning_rate * weight_decay)
  return w


def adamw(kind, w, gradient, steps, **options):
  """AdamW8bit: another default."""
  return adam(kind, w, gradient, steps, **{"weight_decay": 1e-2, **options})


def momentum(
  kind, w, gradient, steps, *, learning_rate, momentum=0.9, weight_decay=0.0
):
  """SGD8bit: coupled decay; the first step sets the momentum."""
  del kind
  m = None
  for t in range(1, steps + 1):
    g = gradient(t, w) + weight_decay * w
    m = g if m is None else momentum * m + g
    w = w - learning_rate * m
  return w


def lion(
  kind,
  w,
  gradient,
  steps,
  *,
  learning_rate,
  b1=0.9,
  b2=0.99,
  weight_decay=0.0,
):
  """Lion8bit: the decay comes before the step."""
  del kind
  m = np.zeros_like(w)
  for t in range(1, steps + 1):
    g = gradient(t, w)
    w = w * (1 - learning_rate * weight_decay)
    w = w - learning_rate * np.sign(b1 * m + (1 - b1) * g)
    m = b2 * m + (1 - b2) * g
  return w


def dynamic_map(signed):
  """create_dynamic_map in float64, rounded once: within 2 ulp of the map."""
  data = [0.0, 1.0]
  for i in range(7):
    edges = np.linspace(0.1, 1, 2**i * (1 if signed else 2) + 1)
    means = 10.0 ** (i - 6) * (edges[:-1] + edges[1:]) / 2
    data += [*means, *(-means if signed else [])]
  return np.sort(data).astype(np.float32)


def midpoints(code):
  """Between neighbouring values, rounded to float32 as in the kernels."""
  return (code[1:] + code[:-1]) * np.float32(0.5)


def quantize(x, code, block_size, sign_repair=False):
  """Blocks of x flattened; nearest value, ties down; (codes, absmax)."""
  x = x.astype(np.float32)
  flat = x.ravel()
  codes, absmax = np.zeros(flat.size, np.uint8), []
  for start in range(0, flat.size, block_size):
    block = flat[start : start + block_size]
    largest = np.abs(block).max()
    absmax.append(largest)
    y = block / (largest or np.float32(1))
    chosen = np.searchsorted(midpoints(code), y, side="left")
    if sign_repair:
      wrong = np.signbit(code[chosen]) != np.signbit(block)
      chosen = chosen + wrong * np.where(block > 0, 1, -1)
    codes[start : start + block_size] = chosen
  return codes.reshape(x.shape), np.array(absmax, np.float32)


def dequantize(codes, absmax, code, block_size):
  """The inverse, in float32."""
  scale = np.repeat(absmax, block_size)[: codes.size]
  return (code[codes.ravel()] * scale).reshape(codes.shape)
