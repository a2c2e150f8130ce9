"""Steps of 8-bit Adam that every kernel must take as the reference does."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from kernels_pallas import codes, contract
from kernels_pallas.adam_8bit_update.api import scale_shape
from kernels_pallas.adam_8bit_update.ref import Blocks, Scalars
from kernels_pallas.specs import ArgumentSpec

_BLOCKS = Blocks()
_UNIT = 2.0**-24
# The tenth step.
_SCALARS = Scalars(
  learning_rate=1e-3,
  b1=0.9,
  b2=0.999,
  eps=1e-8,
  weight_decay=0.1,
  first=1 / (1 - 0.9**10),
  second=1 / math.sqrt(1 - 0.999**10),
)


def shapes(
  shape: tuple[int, ...], dtype: DTypeLike = jnp.float32, *, exact: bool = False
) -> tuple[Any, ...]:
  """Of a leaf's arguments; `exact`: of float32 moments, which have no scale."""
  w = jax.ShapeDtypeStruct(shape, dtype)
  moment = jax.ShapeDtypeStruct(shape, jnp.float32 if exact else jnp.uint8)
  absmax = None
  if not exact:
    absmax = jax.ShapeDtypeStruct(scale_shape(shape, _BLOCKS), jnp.float32)
  return w, w, moment, absmax, moment, absmax


def spec(
  name: str, *leaves: tuple[Any, ...], decayed: Any = True
) -> ArgumentSpec:
  """One leaf, or a tuple of several."""
  numbers = jax.ShapeDtypeStruct((len(_SCALARS),), jnp.float32)
  each = leaves[0] if len(leaves) == 1 else tuple(zip(*leaves, strict=True))
  return ArgumentSpec(
    name, (*each, numbers), ideal_bytes=0, options={"decayed": decayed}
  )


def _draw(spec: ArgumentSpec, seed: int) -> tuple[Any, ...]:
  """With a block of zeros, and gradients of no good."""
  rng = np.random.default_rng(seed)

  def leaf(w, g, mu, *_):
    x, gradient, m, noise = (
      rng.normal(size=w.shape) * scale for scale in (1, 1e-2, 1e-3, 3e-3)
    )
    # A first moment is no larger than the root of the second.
    v = 4 * m**2 + noise**2
    if mu.dtype == jnp.uint8:
      gradient[0, :256] = m[0, :256] = v[0, :256] = 0
      gradient[-1, :2] = np.nan, np.inf
    moments = [
      codes.Quantized(jnp.asarray(x, jnp.float32), None)
      if mu.dtype == jnp.float32
      else codes.quantize(
        jnp.asarray(x, jnp.float32), 256, signed, "rows", signed, "table"
      )
      for x, signed in ((m, True), (v, False))
    ]
    (m, m_scale), (v, v_scale) = moments
    arrays = jnp.asarray(x, w.dtype), jnp.asarray(gradient, g.dtype)
    return *arrays, m, m_scale, v, v_scale

  *given, _ = spec.shapes
  if isinstance(given[0], tuple):
    drawn = [leaf(*each) for each in zip(*given, strict=True)]
    given = zip(*drawn, strict=True)
  else:
    given = leaf(*given)
  return *given, jnp.asarray(_SCALARS, jnp.float32)


def _bounds(spec: ArgumentSpec, shape: tuple[int, ...]) -> tuple[int, float]:
  """No sums. In 16 bits a step is rounded before it is added."""
  del shape
  dtypes = {s.dtype for s in jax.tree.leaves(spec.shapes[0])}
  # A step is at most 2^-6 of the largest parameter; 2^15 is such a rounding.
  return 16 + (2**9 if jnp.dtype(jnp.bfloat16) in dtypes else 0), 0.0


def _ties(spec: ArgumentSpec, arguments: tuple[Any, ...]) -> Sequence[Any]:
  """Where a moment lies within its roundings of a midpoint of codes.

  Of the codes the arithmetic ones differ from the table's within three of them,
  and the old moments are within two of the table's.
  """
  del spec
  *trees, numbers = arguments
  scalars = Scalars(*numbers)

  def leaf(_, gradient, mu, mu_absmax, nu, nu_absmax):
    if mu_absmax is None:
      return False, False, None, False, None
    good = np.isfinite(gradient)
    found = [
      _near(
        np.where(good, decay * _read(held, absmax, signed), 0),
        np.where(good, (1 - decay) * np.where(good, gradient, 0) ** power, 0),
        signed,
      )
      for held, absmax, decay, power, signed in (
        (mu, mu_absmax, scalars.b1, 1, True),
        (nu, nu_absmax, scalars.b2, 2, False),
      )
    ]
    return False, found[0], False, found[1], False

  if not isinstance(trees[0], tuple):
    return leaf(*trees)
  rows = [leaf(*each) for each in zip(*trees, strict=True)]
  return jax.tree.leaves([*zip(*rows, strict=True)])


def _spread(absmax: np.ndarray, width: int) -> np.ndarray:
  return np.repeat(absmax, _BLOCKS.size, axis=-1)[..., :width]


def _read(held: np.ndarray, absmax: np.ndarray, signed: bool) -> np.ndarray:
  values = codes.dynamic_map(signed).astype(np.float64)[held]
  return values * _spread(absmax, held.shape[-1])


def _near(decayed: np.ndarray, new: np.ndarray, signed: bool) -> np.ndarray:
  """Whether the sum's code may be either of two."""
  x, terms = np.abs(decayed + new), np.abs(decayed) + np.abs(new)
  starts = np.arange(0, x.shape[-1], _BLOCKS.size)
  absmax = _spread(np.maximum.reduceat(x, starts, axis=-1), x.shape[-1])
  absmax = np.where(absmax == 0, 1, absmax)
  y = x / absmax
  values = codes.dynamic_map(signed).astype(np.float64)
  values = values[values >= 0]
  # With signs, that of a moment near 0 is as uncertain.
  middle = (values[1:] + values[:-1]) / 2
  middle = np.concatenate([[0.0 if signed else -1.0], middle, [2.0]])
  above = np.searchsorted(middle, y)
  below = np.maximum(above - 1, 0)
  apart = np.minimum(np.abs(middle[above] - y), np.abs(y - middle[below]))
  near = apart <= 16 * _UNIT * (terms / absmax + y)
  return near & (terms > 0)


CONTRACT = contract.Contract(
  specs=(
    spec("8x256", shapes((8, 256))),
    spec("4x600", shapes((4, 600)), decayed=False),
    spec("256_exact", shapes((256,), exact=True)),
    spec("5x100", shapes((5, 100))),
  ),
  more=(
    spec("8x256_bfloat16", shapes((8, 256), jnp.bfloat16)),
    # In one launch and in several.
    spec(
      "five_leaves",
      shapes((8, 256)),
      shapes((4, 600)),
      shapes((4, 512)),
      shapes((384,), exact=True),
      shapes((12, 600)),
      decayed=(True, False, False, True, True),
    ),
    spec("two_leaves", shapes((40, 1368)), shapes((8, 512), jnp.bfloat16)),
    spec("512x1368", shapes((512, 1368))),
    spec("2048x2048_bfloat16", shapes((2048, 2048), jnp.bfloat16)),
  ),
  draw=_draw,
  bounds=_bounds,
  donated=(0, 2, 3, 4, 5),
  ties=_ties,
)
