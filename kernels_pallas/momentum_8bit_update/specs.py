"""What the op is tried on, and what it must give."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels_pallas.momentum_8bit_update.rule import RULE, Scalars
from kernels_pallas.step_8bit.samples import Samples

_SCALARS = Scalars(
  learning_rate=1e-2, momentum=0.9, weight_decay=1e-3, gradient_scale=0.5
)


def _draw(
  rng: np.random.Generator, gradient: np.ndarray, dtype: Any
) -> tuple[list[np.ndarray], np.ndarray]:
  del dtype
  return [rng.normal(size=gradient.shape) * 1e-1], gradient


def _terms(
  w: np.ndarray,
  g: np.ndarray,
  moments: Sequence[np.ndarray],
  scalars: Any,
  decayed: bool,
) -> Sequence[Sequence[np.ndarray]]:
  decay = scalars.weight_decay * w if decayed else np.zeros_like(w)
  g = g * scalars.gradient_scale
  return ((scalars.momentum * moments[0], g, decay),)


_SAMPLES = Samples(RULE, _SCALARS, _draw, _terms)
CONTRACT = _SAMPLES.contract()
SPECS = (
  _SAMPLES.measured((4096, 4096)),
  _SAMPLES.measured((512, 1368)),
)
