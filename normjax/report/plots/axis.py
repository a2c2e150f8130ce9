"""What of an axis is shown."""

from collections.abc import Sequence

import numpy as np


def focus(
  values: Sequence[float], mode: str
) -> tuple[tuple[float, float], bool]:
  """Limits without what is so bad that it would flatten the rest.

  Args:
    values: of the metric.
    mode: "min" or "max", of the metric.

  Returns:
    (low, high), and whether a value lies outside: one more than three times as
    far from the best as the median is.
  """
  sign = 1 if mode == "min" else -1
  costs = sign * np.array(values)
  best, middle, worst = costs.min(), np.median(costs), costs.max()
  edge = min(worst, best + 3 * (middle - best)) if middle > best else worst
  margin = 0.08 * (edge - best) or 0.05 * abs(best) or 1.0
  ends = sorted((sign * (best - margin), sign * (edge + margin)))
  return (float(ends[0]), float(ends[1])), bool(edge < worst)
