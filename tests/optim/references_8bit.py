"""bitsandbytes' optimizers: float64 where nothing is quantised, and blocks.

The transcriptions without blocks move leaves below the least size, which keep
32-bit states. `quantize` and `dequantize` follow the kernels in float32.
"""

import numpy as np

from normjax import optim
from tests.optim import references
from tests.optim.cases import Case


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


def decayed_first(kind, w, gradient, steps, **options):
  """AdamW of torchao: every leaf decays, before the step."""
  del kind
  numbers = {k: v for k, v in options.items() if not isinstance(v, str)}
  return references.adamw(
    "matrix", w, gradient, steps, **{"weight_decay": 1e-2, **numbers}
  )


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


class Blocks:
  """A state in 8 bits, as the kernels hold it."""

  def __init__(self, codes, absmax, signed, block_size, sign_repair=False):
    self.codes, self.absmax = codes, absmax
    self.code = np.asarray(optim.dynamic_map(signed))
    self.block_size, self.sign_repair = block_size, sign_repair

  def load(self):
    """The values, float32."""
    return dequantize(self.codes, self.absmax, self.code, self.block_size)

  def store(self, x):
    """Rounds new values."""
    self.codes, self.absmax = quantize(
      x, self.code, self.block_size, self.sign_repair
    )


def adam_step(t, w, g, m8, v8, *, learning_rate, b1=0.9, b2=0.999, eps=1e-8):
  """kOptimizerStatic8bit2StateBlockwise, in float32."""
  f = np.float32
  m = m8.load() * f(b1) + f(1 - b1) * g
  v = v8.load() * f(b2) + f(1 - b2) * g * g
  correction1, correction2 = f(1 - b1**t), f(np.sqrt(1 - b2**t))
  step_size = f(-learning_rate) * correction2 / correction1
  w = w + step_size * (m / (np.sqrt(v) + correction2 * f(eps)))
  m8.store(m)
  v8.store(v)
  return w, [m, v]


def momentum_step(t, w, g, m8, *, learning_rate, momentum=0.9):
  """kOptimizerStatic8bit1StateBlockwise, MOMENTUM."""
  f = np.float32
  m = g if t == 1 else m8.load() * f(momentum) + g
  w = w - f(learning_rate) * m
  m8.store(m)
  return w, [m]


def lion_step(t, w, g, m8, *, learning_rate, b1=0.9, b2=0.99):
  """kOptimizerStatic8bit1StateBlockwise, LION."""
  del t
  f = np.float32
  old = m8.load()
  w = w - f(learning_rate) * np.sign(old * f(b1) + f(1 - b1) * g)
  m = old * f(b2) + f(1 - b2) * g
  m8.store(m)
  return w, [m]


CASES = (
  Case(
    "adam_8bit",
    adam,
    variants=({}, {"b1": 0.5, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.3}),
    # As AdamP without the projection.
    rounding=1e-5,
  ),
  # torchao decays before the step, as `references.adamw` does.
  Case(
    "adamw_4bit",
    decayed_first,
    like="adam_8bit",
    variants=(
      {},
      {
        **{"b1": 0.5, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.3},
        **{"signed_code": "nf4", "unsigned_code": "dynamic4"},
        "unsigned_rounding": "preconditioner",
      },
    ),
    rounding=1e-5,
    bad={
      "signed_code": (("linear4", ValueError), (4, ValueError)),
      "unsigned_code": (("nf4", ValueError),),
      "signed_rounding": (("preconditioner", ValueError),),
      "unsigned_rounding": (("down", ValueError),),
    },
  ),
  Case("adamw_fp8", decayed_first, like="adam_8bit", rounding=1e-5),
  Case("adamw_8bit", adamw, like="adam_8bit", rounding=1e-5),
  Case(
    "momentum_8bit",
    momentum,
    like="adam_8bit",
    variants=({}, {"momentum": 0.5, "weight_decay": 0.3}),
    # Sums of twelve terms.
    rounding=1e-6,
  ),
  Case(
    "lion_8bit",
    lion,
    like="adam_8bit",
    variants=({}, {"b1": 0.5, "b2": 0.9, "weight_decay": 0.3}),
    # A sign: exact, but for rounding of w.
    rounding=1e-6,
  ),
)
