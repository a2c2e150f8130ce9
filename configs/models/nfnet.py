"""NFNet-F0 to F7, without norms: Brock et al. 2021, arXiv:2102.06171."""

import ml_collections
from ml_collections.config_dict import placeholder


def get_config() -> ml_collections.ConfigDict:
  """F0; classes and image shape come from the data.

  It goes with `norm.name=identity`. The official ImageNet runs
  (nfnets/experiment_nfnets.py) have a stochastic depth of 0.25, label smoothing
  0.1 and `nfnet_sgd`; of `train`, mixup_alpha 0.2, cutmix_alpha 1, mixup_mode
  "halves", ema_decay 0.99999 and ema_warmup; and RandAugment.
  """
  return ml_collections.ConfigDict(
    {
      "name": "nfnet",
      "variant": "F0",
      # Those of the variant.
      "widths": placeholder(tuple),
      "blocks_per_stage": placeholder(tuple),
      "group_size": 128,
      # Channels inside a branch, and of the last convolution.
      "expansion": 0.5,
      "final_expansion": 2.0,
      # Of its four convolutions: 16, 32, 64, half of the first width.
      "stem_channels": placeholder(tuple),
      "alpha": 0.2,
      "skip_init": True,
      "se_ratio": 0.5,
      "stochastic_depth_rate": 0.1,
      # That of the variant.
      "dropout_rate": placeholder(float),
      "activation": "gelu",
      "activation_gain": "official",
      "activation_gain_in": "activations",  # or kernels, as in timm
      "weight_standardization": "floor",  # or added, as in timm
      # That of the standardization; timm's networks have 1e-5.
      "weight_standardization_eps": placeholder(float),
      "padding": "same",  # or half, as in timm
    }
  )
