"""Wilcoxon's signed-rank test, exact for any number of ties and infinities.

`scipy.stats.wilcoxon` is exact without ties only, or by drawing all 2^n signs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class SignedRank(NamedTuple):
  """Outcome of the test.

  Attributes:
    p_value: two-sided, exact; 1 where no difference has a sign.
    sign: of the rank sum less its mean under the null: -1, 0 or 1.
    n: differences that are not 0.
  """

  p_value: float
  sign: int
  n: int


def signed_rank(differences: Sequence[float]) -> SignedRank:
  """Exact two-sided test that paired differences are symmetric about 0.

      W = sum of ranks(|d|) where d > 0,  p = 2 P(W >= max(w, total - w))

  over all 2^n signs of the ranks that are there. Differences of 0 carry no sign
  and are left out; equal sizes share their mean rank, and the distribution is
  that of the shared ranks: exact also with ties. Only the order of sizes
  counts, so that a difference may be infinite: infinite ones tie for the
  largest rank. A flip of method and baseline, equal under the null, flips the
  sign and keeps the rank, also of these.

  Args:
    differences: one per pair; no NaN. Two diverged runs differ by 0.
  """
  d = np.asarray([x for x in differences if x != 0], float)
  if not d.size:
    return SignedRank(1.0, 0, 0)
  _, code, count = np.unique(np.abs(d), return_inverse=True, return_counts=True)
  # Twice the mean rank of equal sizes, which is a whole number.
  last = np.cumsum(count)
  ranks = (2 * last - count + 1)[code]
  total, positive = int(ranks.sum()), int(ranks[d > 0].sum())
  chance = np.zeros(total + 1)  # Of each sum of ranks.
  chance[0] = 1.0
  for rank in ranks:
    flipped = np.zeros_like(chance)
    flipped[rank:] = chance[:-rank]
    chance = (chance + flipped) / 2
  extreme = max(positive, total - positive)
  p_value = min(1.0, 2 * float(chance[extreme:].sum()))
  return SignedRank(p_value, int(np.sign(2 * positive - total)), d.size)
