"""RMS normalization with a gain before the statistic: arXiv:2601.22966."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The paper states neither start nor eps: ports' and rms_norm's."""
  return ml_collections.ConfigDict(
    {"name": "pre_affine", "eps": 1e-6, "lam_init": 1.0}
  )
