"""1,797 images of 8x8 digits, from scikit-learn (BSD-3-Clause).

1,438 to train on; of each class a tenth to tune on and a tenth to validate on.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {
      "name": "digits",
      "scaling": "standardize",
      # Half of what is held out is to make choices on; False validates on all.
      "tuning_split": True,
    }
  )
