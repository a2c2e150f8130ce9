"""Rows as columns, as pandas takes them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def of(rows: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
  """Name to array, all of one length, in the order names are first met.

  Args:
    rows: names to numbers, texts or None; a row need not have all names.

  Returns:
    Whole numbers that no row lacks as int64; other numbers as float64, NaN
    where there is none; texts, and what else is no number, as objects, None
    where there is none.
  """
  rows = list(rows)
  names = dict.fromkeys(name for row in rows for name in row)
  return {name: _column([row.get(name) for row in rows]) for name in names}


def _column(values: list[Any]) -> np.ndarray:
  numbers = [v for v in values if v is not None]
  if not all(isinstance(v, int | float) for v in numbers):
    column = np.empty(len(values), object)
    column[:] = values
    return column
  is_whole = len(numbers) == len(values) and all(
    type(v) is int for v in numbers
  )
  if is_whole:
    return np.asarray(values, np.int64)
  return np.asarray([np.nan if v is None else v for v in values], np.float64)
