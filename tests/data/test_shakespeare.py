"""The token stream of Shakespeare's plays."""

import numpy as np
import pytest

from normjax import data, errors
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


def test_less_text_to_train_on():
  whole, some = (data.make("shakespeare", train_bytes=n) for n in (None, 2000))
  num_bytes = len(some.train)
  assert 1900 < num_bytes <= 2000
  assert bytes(some.train[-1:]) == b"\n"
  np.testing.assert_array_equal(some.train, whole.train[:num_bytes])
  np.testing.assert_array_equal(some.validation, whole.validation)
  assert some.provenance["bytes"]["train"] == num_bytes


@pytest.mark.parametrize(
  ("train_bytes", "said"),
  [(0, "train_bytes=0; "), (1, "allowed: at most 4834688, the"), (10**8, "at")],
)
def test_as_much_text_as_there_is_not(train_bytes, said):
  with pytest.raises(errors.UserError, match=said):
    data.make("shakespeare", train_bytes=train_bytes)


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
