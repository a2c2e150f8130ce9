"""What the op is tried on, and what it must give."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from kernels_pallas.lion_8bit_update.rule import RULE, Scalars
from kernels_pallas.step_8bit.samples import Samples

_SCALARS = Scalars(
  learning_rate=1e-3, b1=0.9, b2=0.99, weight_decay=0.1, gradient_scale=0.5
)


def _draw(
  rng: np.random.Generator, gradient: np.ndarray, dtype: Any
) -> tuple[list[np.ndarray], np.ndarray]:
  """Of what has a sign none is so near 0 that a rounding could turn it.

  The momentum is rounded to its code by 1e-2 of its block's largest at most.
  """
  m = rng.normal(size=gradient.shape) * 1e-3
  g = _SCALARS.gradient_scale * gradient
  mixed = _SCALARS.b1 * m + (1 - _SCALARS.b1) * g
  far = np.abs(mixed) > 1e-4
  gradient = np.where(far, gradient, np.sign(m) * (1e-2 + np.abs(gradient)))
  return [
    m,
  ], np.array(jnp.asarray(gradient, dtype), np.float64)


def _terms(
  w: np.ndarray,
  g: np.ndarray,
  moments: Sequence[np.ndarray],
  scalars: Any,
  decayed: bool,
) -> Sequence[Sequence[np.ndarray]]:
  del w, decayed
  g = g * scalars.gradient_scale
  return ((scalars.b2 * moments[0], (1 - scalars.b2) * g),)


_SAMPLES = Samples(RULE, _SCALARS, _draw, _terms)
CONTRACT = _SAMPLES.contract()
SPECS = (
  _SAMPLES.measured((4096, 4096)),
  _SAMPLES.measured((512, 1368)),
)
