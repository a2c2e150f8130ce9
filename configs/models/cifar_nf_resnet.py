"""NF-ResNet for small images, 9n + 2 layers; blocks of arXiv:2101.08692."""

import ml_collections
from ml_collections.config_dict import placeholder


def get_config() -> ml_collections.ConfigDict:
  """Three blocks a stage; classes and image shape come from the data.

  It goes with `norm.name=identity`.
  """
  return ml_collections.ConfigDict(
    {
      "name": "cifar_nf_resnet",
      "depth": 29,
      "width": 4,
      "alpha": 0.2,
      "skip_init": True,
      # Of squeeze and excitation; None: none.
      "se_ratio": placeholder(float),
      "stochastic_depth_rate": 0.0,
      "dropout_rate": 0.0,
      "activation": "relu",
      "activation_gain": "official",
      "activation_gain_in": "activations",  # or kernels, as in timm
      "weight_standardization": "floor",  # or added, as in timm
      # That of the standardization; timm's networks have 1e-5.
      "weight_standardization_eps": placeholder(float),
      "padding": "same",  # or half, as in timm
      "stem_bias": False,  # timm's weights have one
      "pool_shortcut": False,  # or True, as in timm
    }
  )
