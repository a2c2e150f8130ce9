"""What a corruption is, and the random numbers of each image."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from normjax import rng


class Draws:
  """Random numbers that depend on (seed, kind, index of the image) alone.

  Neither the batch that an image is in nor the severity matters: a stronger
  noise is the same noise, larger.
  """

  def __init__(self, seed: int, kind: str, index_b: Sequence[int]):
    """Makes one generator an image."""
    stream = rng.host_seed(seed, f"corruption/{kind}")
    self._generators = [
      np.random.default_rng((stream, int(index))) for index in index_b
    ]

  def normal(self, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal, (b, *shape)."""
    return np.stack([g.standard_normal(shape) for g in self._generators])

  def uniform(
    self, low: float, high: float, shape: tuple[int, ...] = ()
  ) -> np.ndarray:
    """Uniform in [low, high), (b, *shape)."""
    return np.stack([g.uniform(low, high, shape) for g in self._generators])

  def integers(self, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform in low … high - 1, (b, *shape)."""
    return np.stack([g.integers(low, high, shape) for g in self._generators])

  def poisson(self, rates: np.ndarray) -> np.ndarray:
    """Counts of the given rates, whose first axis is the batch's."""
    pairs = zip(self._generators, rates, strict=True)
    return np.stack([g.poisson(rate) for g, rate in pairs])


class Kind(NamedTuple):
  """One corruption.

  Attributes:
    name: TFDS's, as in its `cifar10_corrupted`.
    apply: (images_byxc, draws, *constants) -> images_byxc, in float64; white
      is 1. What leaves [0, 1] is clipped by the caller.
    constants: of severity 1 to 5.
    common: one of the benchmark's 15, not of the 4 extra ones.
  """

  name: str
  apply: Callable[..., np.ndarray]
  constants: tuple[tuple[Any, ...], ...]
  common: bool = True
