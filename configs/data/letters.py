"""10,400 letters in 20 fonts of the package matplotlib (DejaVu, STIX, BaKoMa),
distorted and noisy, 16x16.

8,320 to train on; of each letter a tenth to tune on and a tenth to validate on.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {
      "name": "letters",
      "scaling": "standardize",
      # Half of what is held out is to make choices on; False validates on all.
      "tuning_split": True,
    }
  )
