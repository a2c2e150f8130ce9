"""ResNet for ImageNet: He et al. 2015, arXiv:1512.03385, version 1.5."""

import ml_collections
from ml_collections.config_dict import placeholder


def get_config() -> ml_collections.ConfigDict:
  """ResNet-50; classes, image shape and norm come from elsewhere."""
  return ml_collections.ConfigDict(
    {
      "name": "resnet",
      "depth": 50,
      "width": 64,
      "stem_width": placeholder(int),  # width
      # Those of the depth.
      "blocks_per_stage": placeholder(tuple),
      "version": "v1",
      "stride_in": "3x3",
      "shortcut": "project",
      "zero_gamma": False,
      "scale_init": "ones",
      "bias_init": 0.0,
      # "eval" or "tune" go on with what "train" has trained.
      "conv_norm_mode": "train",
      # Stochastic depth of the last block; linear in depth, timm's drop path.
      "drop_path_rate": 0.0,
      # Of the kernels of convolutions; None: none.
      "weight_norm": placeholder(str),
      # The last layer: linear, normalized_softmax, equiangular, prototype.
      "head": "linear",
    }
  )
