"""Symmetric matrices, in float64."""

import numpy as np

from normjax import errors


def symmetric(what: str, matrix: np.ndarray) -> np.ndarray:
  """It in float64.

  Args:
    what: it is, for the message.
    matrix: finite or not; numpy takes half of it for all of it.

  Raises:
    UserError: one that is not square, or is another than its transpose.
  """
  matrix = np.asarray(matrix, np.float64)
  if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
    raise errors.UserError(
      f"{what} of shape {matrix.shape}; needed: a square matrix."
    )
  # Products in float32 are good to 2^-24 per term of a sum: 1e-3 is that of
  # some 2^14 of them, all of one sign.
  largest = np.abs(matrix).max()
  if np.isfinite(largest) and np.abs(matrix - matrix.T).max() > 1e-3 * largest:
    raise errors.UserError(
      f"{what} that is not symmetric; needed: one that is."
    )
  return matrix
