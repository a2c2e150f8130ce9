"""Fixup's ResNet for small images: Zhang et al. 2019, arXiv:1901.09321."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The smallest of the official code; goes with config.norm.name=identity."""
  return ml_collections.ConfigDict(
    {"name": "fixup_cifar_resnet", "depth": 20, "width": 16}
  )
