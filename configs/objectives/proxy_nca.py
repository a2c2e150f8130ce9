"""Proxy-NCA, for heads of class vectors: arXiv:1703.07464."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """It has no options."""
  return ml_collections.ConfigDict({"name": "proxy_nca"})
