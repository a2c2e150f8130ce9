"""A power law through points, by a line through their logarithms."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from normjax.statistics import distributions
from normjax.statistics.intervals import ALPHA


@dataclasses.dataclass(frozen=True)
class PowerLaw:
  """y = coefficient x^exponent, fitted to n points.

  Attributes:
    exponent: the slope of log y over log x.
    coefficient: y at x = 1.
    standard_error: of the exponent; None of two points.
    low: lower end of the exponent's 95% t-interval; None of two points.
    high: upper end; None of two points.
    r_squared: share of the variance of log y that the line has; NaN where all
      y are equal.
    n: points.
  """

  exponent: float
  coefficient: float
  standard_error: float | None
  low: float | None
  high: float | None
  r_squared: float
  n: int


def fit(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
  """Ordinary least squares of log y on log x.

      interval = exponent ± t(0.975, n - 2) standard error

  It is the spread around the line, and no more: of one run per point it does
  not tell a bend from noise. As arXiv:2605.21803 fits ranks over widths.

  Args:
    x: positive, of two values at least.
    y: positive.

  Raises:
    ValueError: numbers that have no logarithm, or no line.
  """
  if len(x) != len(y):
    raise ValueError(f"a power law of {len(x)} x and {len(y)} y.")
  for name, values in (("x", x), ("y", y)):
    for value in values:
      if not (math.isfinite(value) and value > 0):
        raise ValueError(
          f"a power law through {name}={value!r}; allowed: numbers > 0."
        )
  if len(set(x)) < 2:
    raise ValueError(
      f"a power law through x={list(x)}; needed: two different ones."
    )
  log_x, log_y = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
  weights = slope_weights(x)
  exponent = float(weights @ log_y)
  level = float(log_y.mean() - exponent * log_x.mean())
  residual = float(np.square(log_y - level - exponent * log_x).sum())
  total = float(np.square(log_y - log_y.mean()).sum())
  n, error, half = len(x), None, None
  if n > 2:
    error = math.sqrt(residual / (n - 2) * float(weights @ weights))
    half = float(distributions.t_quantile(n - 2, 1 - ALPHA / 2)) * error
  return PowerLaw(
    exponent=exponent,
    coefficient=math.exp(level),
    standard_error=error,
    low=None if half is None else exponent - half,
    high=None if half is None else exponent + half,
    r_squared=1 - residual / total if total else math.nan,
    n=n,
  )


def slope_weights(x: Sequence[float]) -> np.ndarray:
  """Weights of log y that give the exponent of `fit`.

      exponent = sum_i w_i log y_i,  w_i = (log x_i - m) / sum_j (log x_j - m)^2

  An exponent is a weighted sum of logarithms, so that statements about it are
  statements about the points.

  Args:
    x: as for `fit`.
  """
  centred = np.log(np.asarray(x, float))
  centred -= centred.mean()
  return centred / (centred @ centred)
