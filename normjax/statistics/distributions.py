"""Distributions by `scipy.special`, which is imported at the first call.

A list of tables plans comparisons and needs none of them.
"""

from typing import Any


def t_quantile(df: Any, probability: Any) -> Any:
  """The value below which Student's t is with that probability."""
  from scipy import special

  return special.stdtrit(df, probability)


def t_cdf(df: Any, t: Any) -> Any:
  """The probability that Student's t is below `t`."""
  from scipy import special

  return special.stdtr(df, t)


def chi2_upper_quantile(df: Any, probability: Any) -> Any:
  """The value above which chi-squared is with that probability."""
  from scipy import special

  return special.chdtri(df, probability)
