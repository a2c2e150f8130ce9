"""Wiki-40B, English: Guo et al. 2020, LREC (TFDS; CC BY-SA).

Articles with their structure markers, read by random access.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "wiki40b",
      "sequence_length": 256,
      "tokenizer": "bytes",
      "vocab_size": 256,
      "tokenizer_documents": 20_000,
      "train_split": "train[:99%]",
      "tuning_split": "train[99%:]",  # to make choices on
      "validation_split": "validation",
      "test_split": "test",  # read with evaluate.split="test" alone
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
