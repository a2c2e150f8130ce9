"""Root mean square normalization: Zhang, Sennrich 2019, arXiv:1910.07467."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The eps of LLaMA 1, arXiv:2302.13971; impl None: what runs here."""
  return ml_collections.ConfigDict(
    {
      "name": "rms_norm",
      "eps": 1e-6,
      "use_scale": True,
      "impl": ml_collections.config_dict.placeholder(object),
      "zero_centered": False,
      "scale_form": "plain",
      "eps_placement": "inside",
      "partial": 1.0,
    }
  )
