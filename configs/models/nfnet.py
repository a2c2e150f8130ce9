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
      "alpha": 0.2,
      "skip_init": True,
      "se_ratio": 0.5,
      "stochastic_depth_rate": 0.1,
      # That of the variant.
      "dropout_rate": placeholder(float),
      "activation": "gelu",
      "activation_gain": "official",
      "weight_standardization": "floor",  # or added, as in timm
    }
  )
