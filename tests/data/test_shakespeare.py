"""The token stream of Shakespeare's plays."""

import numpy as np
import pytest

from normjax import data
from normjax.data import tokenizer


def test_evaluation_of_shakespeare_weighs_every_byte():
  text = data.make("shakespeare")
  total = sum(b["weight"].sum() for b in text.evaluation_batches(64))
  assert total == len(text.validation) - 1


def test_a_few_batches_sample_the_whole_split():
  text = data.make("shakespeare")
  starts = {
    row.tobytes()
    for row in text._windows(text.validation, np.arange(0, 100 * 64, 64))[
      "inputs"
    ]
  }
  first = next(text.evaluation_batches(64))["inputs"]
  assert sum(row.tobytes() in starts for row in first) < 20


def test_bpe_gives_the_text_back():
  text = {
    "train": np.frombuffer(b"the cat sat, the dog sat.\n" * 40, np.uint8),
    "validation": np.frombuffer("the caté \u2014 zebra\n\n".encode(), np.uint8),
  }
  tokens, size = tokenizer.encode("bpe", 280, text)
  assert size == 280
  model = tokenizer.load(280, text)
  for split, encoded in tokens.items():
    assert encoded.max() < size
    assert model.decode(list(encoded)).encode() == text[split].tobytes()
  assert len(tokens["train"]) < len(text["train"]) / 2


@pytest.mark.slow
def test_bpe_of_shakespeare():
  text = data.make("shakespeare", tokenizer="bpe", vocab_size=1024)
  assert text.model_options == {"vocab_size": 1024}
  assert 2.2 < text.bytes_per_token < 2.6
  batch = text.train_batch(0, 0, 4)
  assert batch["inputs"].max() < 1024
