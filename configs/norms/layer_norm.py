"""Layer normalization: Ba, Kiros, Hinton 2016, arXiv:1607.06450."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The eps of Flax; PyTorch has 1e-5. impl None: what runs here."""
  return ml_collections.ConfigDict(
    {
      "name": "layer_norm",
      "eps": 1e-6,
      "use_bias": True,
      "use_scale": True,
      "impl": ml_collections.config_dict.placeholder(object),
      "zero_centered": False,
      "scale_form": "plain",
      "eps_placement": "inside",
      "statistics": "two_pass",
    }
  )
