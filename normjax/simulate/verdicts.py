"""The report's paired tests and Holm's adjustment, on many sweeps at once.

`normjax.statistics` has them for one method and one sweep; a test shows that a
report says the same.
"""

import math

import numpy as np
from scipy import special

from normjax.statistics import ALPHA


def paired_tests(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Two-sided paired t-tests of each method against the first.

  Args:
    losses: (s, n, m), n >= 2.

  Returns:
    Mean differences and p-values, each (s, m - 1).
  """
  difference = losses[..., 1:] - losses[..., :1]
  n = difference.shape[1]
  mean = difference.mean(1)
  t = mean / (difference.std(1, ddof=1) / math.sqrt(n))
  return mean, 2 * special.stdtr(n - 1, -np.abs(t))


def best_is_told(losses: np.ndarray) -> np.ndarray:
  """Whether the method with the best mean is told apart from every other.

  By paired tests, with Holm's adjustment for their number.

  Args:
    losses: (s, n, m), n >= 2.

  Returns:
    Booleans, (s,).
  """
  order = np.argsort(losses.mean(1), axis=-1)[:, None, :]
  _, p = paired_tests(np.take_along_axis(losses, order, -1))
  return holm(p).max(1) < ALPHA


def holm(p: np.ndarray) -> np.ndarray:
  """Holm's step-down adjustment along the last axis."""
  count = p.shape[-1]
  order = np.argsort(p, axis=-1)
  steps = np.take_along_axis(p, order, -1) * np.arange(count, 0, -1)
  adjusted = np.minimum(np.maximum.accumulate(steps, axis=-1), 1)
  result = np.empty_like(adjusted)
  np.put_along_axis(result, order, adjusted, axis=-1)
  return result
