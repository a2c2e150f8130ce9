"""Steps that every kernel must take as the reference does."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from kernels_pallas import codes, contract
from kernels_pallas.specs import ArgumentSpec
from kernels_pallas.step_8bit.rule import Blocks, Rule, scale_shape

_BLOCKS = Blocks()
_UNIT = 2.0**-24


@dataclasses.dataclass(frozen=True)
class Samples:
  """What an op's steps are made of.

  Attributes:
    rule: of the optimizer.
    scalars: of the step.
    draw: (rng, w, g) -> the moments and the gradient of a leaf, float64.
    terms: (w, g, moments, scalars, decayed) -> for each moment the terms whose
      sum the next one is, float64; g is finite.
  """

  rule: Rule
  scalars: Any
  draw: Callable[..., tuple[list[np.ndarray], np.ndarray]]
  terms: Callable[..., Sequence[Sequence[np.ndarray]]]

  def shapes(
    self,
    shape: tuple[int, ...],
    dtype: DTypeLike = jnp.float32,
    *,
    exact: bool = False,
  ) -> tuple[Any, ...]:
    """Of a leaf's arguments; `exact`: of float32 moments, without a scale."""
    w = jax.ShapeDtypeStruct(shape, dtype)
    moment = jax.ShapeDtypeStruct(shape, jnp.float32 if exact else jnp.uint8)
    absmax = None
    if not exact:
      scales = scale_shape(shape, _BLOCKS)
      absmax = jax.ShapeDtypeStruct(scales, jnp.float32)
    return w, w, *(moment, absmax) * len(self.rule.signed)

  def spec(
    self, name: str, *leaves: tuple[Any, ...], decayed: Any = True
  ) -> ArgumentSpec:
    """One leaf, or a tuple of several."""
    numbers = jax.ShapeDtypeStruct((len(self.scalars),), jnp.float32)
    each = leaves[0] if len(leaves) == 1 else tuple(zip(*leaves, strict=True))
    return ArgumentSpec(
      name, (*each, numbers), ideal_bytes=0, options={"decayed": decayed}
    )

  def measured(
    self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
  ) -> ArgumentSpec:
    """A leaf for benchmarks: all but its gradient is read and written."""
    name = f"{'x'.join(map(str, shape))}_{jnp.dtype(dtype).name}"
    found = self.spec(name, self.shapes(shape, dtype))
    *leaf, _ = found.shapes
    sizes = [x.size * x.dtype.itemsize for x in leaf]
    return dataclasses.replace(
      found, ideal_bytes=2 * sum(sizes) - sizes[1], donated=self._donated
    )

  def contract(self) -> contract.Contract:
    """On leaves of several shapes, alone and in one launch."""
    shapes, spec = self.shapes, self.spec
    return contract.Contract(
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
      draw=self._draw,
      bounds=_bounds,
      donated=self._donated,
      ties=functools.partial(_ties, self),
    )

  @property
  def _donated(self) -> tuple[int, ...]:
    return (0, *range(2, 2 + 2 * len(self.rule.signed)))

  def _draw(self, spec: ArgumentSpec, seed: int) -> tuple[Any, ...]:
    """With a block of zeros, and gradients of no good."""
    rng = np.random.default_rng(seed)

    def leaf(w, g, held, *_):
      parameter, gradient = (
        rng.normal(size=w.shape) * scale for scale in (1, 1e-2)
      )
      moments, gradient = self.draw(rng, gradient, g.dtype)
      if held.dtype == jnp.uint8:
        for x in (gradient, *moments):
          x[0, :256] = 0
        gradient[-1, :2] = np.nan, np.inf
      stored = [
        codes.Quantized(jnp.asarray(x, jnp.float32), None)
        if held.dtype == jnp.float32
        else codes.quantize(
          jnp.asarray(x, jnp.float32), 256, signed, "rows", signed, "table"
        )
        for x, signed in zip(moments, self.rule.signed, strict=True)
      ]
      arrays = jnp.asarray(parameter, w.dtype), jnp.asarray(gradient, g.dtype)
      return *arrays, *itertools.chain(*stored)

    *given, _ = spec.shapes
    if isinstance(given[0], tuple):
      drawn = [leaf(*each) for each in zip(*given, strict=True)]
      given = zip(*drawn, strict=True)
    else:
      given = leaf(*given)
    return *given, jnp.asarray(self.scalars, jnp.float32)


def _bounds(spec: ArgumentSpec, shape: tuple[int, ...]) -> tuple[int, float]:
  """In 16 bits a step is rounded before it is added."""
  dtypes = {s.dtype for s in jax.tree.leaves(spec.shapes[0])}
  narrow = jnp.dtype(jnp.bfloat16) in dtypes
  if not shape:
    # The sum of the squares, each of 16 roundings of a step.
    return 2**7 + (2**16 if narrow else 0), 0.0
  # A step is at most 2^-6 of the largest parameter; 2^15 is such a rounding.
  return 16 + (2**9 if narrow else 0), 0.0


def _ties(
  samples: Samples, spec: ArgumentSpec, arguments: tuple[Any, ...]
) -> Sequence[Any]:
  """Where a moment lies within its roundings of a midpoint of codes.

  Of the codes the arithmetic ones differ from the table's within three of them,
  and the old moments are within two of the table's.
  """
  *trees, numbers = arguments
  scalars = samples.rule.scalars(*numbers)
  decayed = spec.options["decayed"]

  def leaf(decayed, w, gradient, *moments):
    pairs = [*itertools.batched(moments, 2)]
    if pairs[0][1] is None:
      return False, *(False, None) * len(pairs)
    good = np.isfinite(gradient)
    old = [
      _read(held, absmax, signed)
      for (held, absmax), signed in zip(pairs, samples.rule.signed, strict=True)
    ]
    terms = samples.terms(w, np.where(good, gradient, 0), old, scalars, decayed)
    found = [
      _near([np.where(good, x, 0) for x in each], signed)
      for each, signed in zip(terms, samples.rule.signed, strict=True)
    ]
    return False, *itertools.chain(*((near, False) for near in found))

  if not isinstance(trees[0], tuple):
    return *leaf(decayed, *trees), False
  if isinstance(decayed, bool):
    decayed = (decayed,) * len(trees[0])
  rows = [leaf(*each) for each in zip(decayed, *trees, strict=True)]
  return *jax.tree.leaves([*zip(*rows, strict=True)]), False


def _spread(absmax: np.ndarray, width: int) -> np.ndarray:
  return np.repeat(absmax, _BLOCKS.size, axis=-1)[..., :width]


def _read(held: np.ndarray, absmax: np.ndarray, signed: bool) -> np.ndarray:
  values = codes.dynamic_map(signed).astype(np.float64)[held]
  return values * _spread(absmax, held.shape[-1])


def _near(parts: Sequence[np.ndarray], signed: bool) -> np.ndarray:
  """Whether the code of the sum of the parts may be either of two."""
  x, terms = np.abs(sum(parts)), sum(map(np.abs, parts))
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
