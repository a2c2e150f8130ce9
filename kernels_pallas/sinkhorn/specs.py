"""What the op is tried on, and what it must give."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from kernels_pallas import contract
from kernels_pallas.specs import ArgumentSpec


def _spec(shape: tuple[int, ...], dtype=jnp.float32) -> ArgumentSpec:
  x = jax.ShapeDtypeStruct(shape, dtype)
  return ArgumentSpec(
    name=f"{'x'.join(map(str, shape))}_{jnp.dtype(dtype).name}",
    shapes=(x,),
    # Its largest entry, five rounds, and the result.
    ideal_bytes=8 * math.prod(shape) * x.dtype.itemsize,
  )


def _sample(
  shapes: tuple[tuple[int, ...], ...],
  num_iters: int = 2,
  first: str = "output",
  dtype: DTypeLike = jnp.float32,
) -> ArgumentSpec:
  """One array, or a tuple of several that kernels take together."""
  xs = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
  size = "_".join("x".join(map(str, shape)) for shape in shapes)
  return ArgumentSpec(
    f"{size}_{first}_{jnp.dtype(dtype).name}",
    (tuple(xs) if len(xs) > 1 else xs[0],),
    ideal_bytes=0,
    options={"num_iters": num_iters, "first": first},
  )


def _draw(spec: ArgumentSpec, seed: int) -> tuple[Any, ...]:
  """Rows of other magnitude each; a row and a column of zeros."""
  rng = np.random.default_rng(seed)

  def one(s):
    x = rng.normal(size=s.shape) * np.exp(rng.normal(size=(*s.shape[:2], 1)))
    x[0, 1], x[0, :, 5] = 0, 0
    return jnp.asarray(x, s.dtype)

  return jax.tree.map(one, spec.shapes)


def _bounds(spec: ArgumentSpec, shape: tuple[int, ...]) -> tuple[int, float]:
  """A round has sums of m and of n squares, and some twelve roundings.

  The root halves the error of a sum.
  """
  rounds = spec.options["num_iters"]
  return rounds * (sum(shape[1:]) // 2 + 12), 0.0


CONTRACT = contract.Contract(
  specs=(
    _sample(((2, 20, 200),)),
    _sample(((3, 2, 8),)),
  ),
  more=(
    _sample(((1, 34, 128),), 1, "reduction"),
    _sample(((1, 18, 200),), 1, dtype=jnp.bfloat16),
    _sample(((1, 34, 200), (2, 34, 200)), first="reduction"),
    _sample(((1, 34, 200), (2, 34, 200), (1, 18, 256))),
    _sample(((3, 512, 1368),), 5),
    _sample(((1, 256, 8192),), 3, "reduction"),
    _sample(((1, 1024, 2048),), 5, dtype=jnp.bfloat16),
  ),
  draw=_draw,
  bounds=_bounds,
)
SPECS = (
  _spec((1, 4096, 4096)),
  _spec((24, 512, 1368)),
  _spec((1, 2048, 5504), jnp.bfloat16),
)
