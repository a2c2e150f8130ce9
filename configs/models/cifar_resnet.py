"""ResNet with 6n + 2 layers for small images: He et al. 2015, 1512.03385."""

import ml_collections
from ml_collections.config_dict import placeholder


def get_config() -> ml_collections.ConfigDict:
  """The paper's smallest; classes, image shape and norm come from elsewhere."""
  return ml_collections.ConfigDict(
    {
      "name": "cifar_resnet",
      "depth": 20,
      "width": 16,
      "version": "v1",
      "shortcut": "pad",
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
