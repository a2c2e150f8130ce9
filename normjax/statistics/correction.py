"""Adjustment of p-values for the number of comparisons."""

from collections.abc import Sequence


def holm(
  p_values: Sequence[float], num_comparisons: int | None = None
) -> list[float]:
  """Holm's step-down adjustment: controls the family-wise error rate.

      p_(i) -> max over j <= i of (m - j + 1) p_(j), at most 1

  Args:
    p_values: that are known.
    num_comparisons: m, where more are made than have a p-value: the others
      count as p = 1. None: as many as there are p-values.
  """
  count = len(p_values) if num_comparisons is None else num_comparisons
  adjusted = [0.0] * len(p_values)
  largest = 0.0
  order = sorted(range(len(p_values)), key=lambda i: p_values[i])
  for rank, index in enumerate(order):
    largest = max(largest, (count - rank) * p_values[index])
    adjusted[index] = min(1.0, largest)
  return adjusted
