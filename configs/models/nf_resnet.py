"""NF-ResNet for ImageNet, without norms: Brock et al. 2021, 2101.08692."""

import ml_collections
from ml_collections.config_dict import placeholder


def get_config() -> ml_collections.ConfigDict:
  """NF-ResNet-50; classes and image shape come from the data.

  It goes with `norm.name=identity`.
  """
  return ml_collections.ConfigDict(
    {
      "name": "nf_resnet",
      "depth": 50,
      "width": 4,
      # Those of the depth.
      "blocks_per_stage": placeholder(tuple),
      "alpha": 0.2,
      "skip_init": True,
      # Of squeeze and excitation; None: none.
      "se_ratio": placeholder(float),
      "stochastic_depth_rate": 0.1,
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
