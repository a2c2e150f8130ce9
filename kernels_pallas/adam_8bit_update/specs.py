"""What the op is tried on, and what it must give."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from kernels_pallas.adam_8bit_update.rule import RULE, Scalars
from kernels_pallas.step_8bit.samples import Samples

# The tenth step.
_SCALARS = Scalars(
  learning_rate=1e-3,
  b1=0.9,
  b2=0.999,
  eps=1e-8,
  weight_decay=0.1,
  first=1 / (1 - 0.9**10),
  second=1 / math.sqrt(1 - 0.999**10),
  gradient_scale=0.5,
)


def _draw(
  rng: np.random.Generator, gradient: np.ndarray, dtype: Any
) -> tuple[list[np.ndarray], np.ndarray]:
  """A first moment is no larger than the root of the second."""
  del dtype
  m, noise = (rng.normal(size=gradient.shape) * s for s in (1e-3, 3e-3))
  return [m, 4 * m**2 + noise**2], gradient


def _terms(
  w: np.ndarray,
  g: np.ndarray,
  moments: Sequence[np.ndarray],
  scalars: Any,
  decayed: bool,
) -> Sequence[Sequence[np.ndarray]]:
  del w, decayed
  m, v = moments
  g = g * scalars.gradient_scale
  return (
    (scalars.b1 * m, (1 - scalars.b1) * g),
    (scalars.b2 * v, (1 - scalars.b2) * g**2),
  )


_SAMPLES = Samples(RULE, _SCALARS, _draw, _terms)
CONTRACT = _SAMPLES.contract()
SPECS = (
  _SAMPLES.measured((4096, 4096)),
  _SAMPLES.measured((512, 1368)),
  _SAMPLES.measured((2048, 5504), jnp.bfloat16),
)
