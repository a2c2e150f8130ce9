"""Hard and soft rank of a spectrum: arXiv:2605.21803."""

import numpy as np

# The official code's: the least eigenvalue, and what keeps 0 / 0 away.
_TINY = 1e-12


def eigenvalues(covariance_dd: np.ndarray) -> np.ndarray:
  """The eigenvalues of a covariance, the largest first, each at least 1e-12.

  Dead units have an eigenvalue of 0, and rounding makes some negative.

  Args:
    covariance_dd: symmetric; float64 is computed with.

  Returns:
    (d,), float64.
  """
  matrix = np.asarray(covariance_dd, np.float64)
  if not np.isfinite(matrix).all():
    return np.full(len(matrix), np.nan)
  return np.maximum(np.linalg.eigvalsh(matrix)[::-1], _TINY)


def soft_rank(eigenvalues_d: np.ndarray) -> float:
  """The exponential of the entropy, exp(-sum p log p); from 1 to d.

  Args:
    eigenvalues_d: of `eigenvalues`.
  """
  p_d = eigenvalues_d / (eigenvalues_d.sum() + _TINY)
  return float(np.exp(-(p_d * np.log(p_d + _TINY)).sum()))


def hard_rank(eigenvalues_d: np.ndarray) -> float:
  """The participation ratio (sum lambda)^2 / sum lambda^2; from 1 to d.

  Args:
    eigenvalues_d: of `eigenvalues`.
  """
  total = eigenvalues_d.sum() + _TINY
  return float(total**2 / ((eigenvalues_d**2).sum() + _TINY))
