"""One Billion Word Benchmark: Chelba et al. 2013, arXiv:1312.3005 (TFDS).

About 30 million shuffled sentences; evaluated on the test split.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "lm1b",
      "sequence_length": 256,
      "tokenizer": "bytes",
      "vocab_size": 256,
      "tokenizer_documents": 20_000,
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
