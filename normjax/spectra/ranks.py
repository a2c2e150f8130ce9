"""Hard and soft rank of a spectrum: arXiv:2605.21803."""

import numpy as np

from normjax import errors
from normjax.spectra import matrices

# The official code's: the least eigenvalue, and what keeps 0 / 0 away.
_TINY = 1e-12


def eigenvalues(covariance_dd: np.ndarray) -> np.ndarray:
  """The eigenvalues of a covariance, the largest first, each at least 1e-12.

  Dead units have an eigenvalue of 0, and rounding makes some negative.

  Args:
    covariance_dd: symmetric; float64 is computed with.

  Returns:
    (d,), float64; NaN where an entry is not finite.

  Raises:
    UserError: a matrix that is not symmetric.
  """
  matrix = matrices.symmetric("a covariance", covariance_dd)
  if not np.isfinite(matrix).all():
    return np.full(len(matrix), np.nan)
  return np.maximum(np.linalg.eigvalsh(matrix)[::-1], _TINY)


def _spectrum(eigenvalues_d: np.ndarray) -> np.ndarray:
  found = np.asarray(eigenvalues_d, np.float64)
  if found.ndim != 1 or not found.size:
    raise errors.UserError(
      f"eigenvalues of shape {found.shape}; needed: (d,), of `eigenvalues`."
    )
  if (found < 0).any():  # NaN is none: it stays NaN.
    raise errors.UserError(
      f"an eigenvalue of {found.min():g}; needed: numbers >= 0."
    )
  return found


def soft_rank(eigenvalues_d: np.ndarray) -> float:
  """The exponential of the entropy, exp(-sum p log p); from 1 to d.

  Args:
    eigenvalues_d: of `eigenvalues`.

  Raises:
    UserError: what is no spectrum: another shape, a negative number.
  """
  eigenvalues_d = _spectrum(eigenvalues_d)
  p_d = eigenvalues_d / (eigenvalues_d.sum() + _TINY)
  return float(np.exp(-(p_d * np.log(p_d + _TINY)).sum()))


def hard_rank(eigenvalues_d: np.ndarray) -> float:
  """The participation ratio (sum lambda)^2 / sum lambda^2; from 1 to d.

  Args:
    eigenvalues_d: of `eigenvalues`.

  Raises:
    UserError: what is no spectrum: another shape, a negative number.
  """
  eigenvalues_d = _spectrum(eigenvalues_d)
  total = eigenvalues_d.sum() + _TINY
  return float(total**2 / ((eigenvalues_d**2).sum() + _TINY))
