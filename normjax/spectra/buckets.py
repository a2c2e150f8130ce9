"""Frequent, middling and rare tokens, a third of all occurrences each."""

import numpy as np

from normjax import errors

BUCKETS = ("head", "mid", "tail")
_HEAD_SHARE, _MID_SHARE = 0.33, 0.67


def bucket_of_token(counts_v: np.ndarray) -> np.ndarray:
  """The bucket of each token of a vocabulary: 0 head, 1 mid, 2 tail.

  By occurrences, not by words: head are the most frequent tokens that make up
  33% of a text together, head and mid 67%; each has one token at least, and
  tokens that are as frequent are in one bucket. arXiv:2605.21803; its code has
  these two shares.

  Args:
    counts_v: how often each token is in the text.

  Returns:
    (v,) int32.

  Raises:
    UserError: no counts, or less than three tokens.
  """
  counts_v = np.asarray(counts_v)
  is_count = np.issubdtype(counts_v.dtype, np.number) and counts_v.ndim == 1
  # NaN is not >= 0 either.
  if not is_count or len(counts_v) < 3 or not (counts_v >= 0).all():
    raise errors.UserError(
      f"token counts of shape {counts_v.shape}, {counts_v.dtype}; needed: a"
      " number >= 0 for each of three tokens or more."
    )
  falling_v = np.sort(counts_v)[::-1]
  so_far_v = np.cumsum(falling_v)
  last = len(counts_v) - 1
  head = np.clip((so_far_v <= _HEAD_SHARE * so_far_v[-1]).sum(), 1, last)
  mid = (so_far_v <= _MID_SHARE * so_far_v[-1]).sum()
  mid = max(head + 1, min(mid, last))
  in_head_v = counts_v >= falling_v[head - 1]
  in_mid_v = counts_v >= falling_v[mid - 1]
  return np.where(in_head_v, 0, np.where(in_mid_v, 1, 2)).astype(np.int32)
