"""One Billion Word Benchmark: Chelba et al. 2013, arXiv:1312.3005 (TFDS).

About 30 million shuffled sentences; papers report the test split. A hundredth
of the training sentences tunes, another one validates.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "lm1b",
      "sequence_length": 256,
      # "bytes"; "bpe", trained on the first documents; or the path of a
      # tokenizer.json or a SentencePiece .model, with the model's vocabulary.
      "tokenizer": "bytes",
      "vocab_size": 256,
      "tokenizer_documents": 20_000,
      # What fills the window of a short document: those behind it ("stream"),
      # or padding, and a long one is cut ("document").
      "window": "stream",
      "train_split": "train[:98%]",
      "tuning_split": "train[98%:99%]",  # to make choices on
      "validation_split": "train[99%:]",
      "test_split": "test",  # read with evaluate.split="test" alone
      # How fast batches come, not what they hold: threads, or processes, that
      # make them ahead; whether tokens are made once, into the cache.
      "threads": 1,
      "workers": 0,
      "token_cache": False,
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
