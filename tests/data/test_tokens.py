import hashlib
import subprocess
import sys

import numpy as np
import pytest

from normjax import data, errors
from normjax.data import tokens


def _stream(length=103, validation=50, sequence_length=8):
  """Every token is its own position, so that windows show where they are."""
  return tokens.TokenStream(
    name="counting",
    train=np.arange(length, dtype=np.int32),
    validation=np.arange(1000, 1000 + validation, dtype=np.int32),
    vocab_size=2000,
    sequence_length=sequence_length,
    bytes_per_token=1.0,
    provenance={},
  )


def _digest(batch):
  return hashlib.sha256(
    b"".join(batch[key].tobytes() for key in sorted(batch))
  ).hexdigest()


def test_targets_follow_inputs_and_lie_in_the_training_text():
  batch = _stream().train_batch(seed=0, step=3, batch_size=5)
  np.testing.assert_array_equal(batch["targets"], batch["inputs"] + 1)
  assert batch["inputs"].shape == (5, 8)
  assert batch["inputs"].dtype == np.int32
  assert batch["weight"].dtype == np.float32
  assert batch["targets"].max() <= 102
  np.testing.assert_array_equal(batch["weight"], 1.0)


def test_a_batch_is_a_pure_function_of_its_arguments():
  stream = _stream()
  forward = [_digest(stream.train_batch(7, step, 4)) for step in range(9)]
  backward = [
    _digest(_stream().train_batch(7, step, 4)) for step in range(8, -1, -1)
  ]
  assert forward == backward[::-1]
  assert _digest(stream.train_batch(8, 0, 4)) != forward[0]
  assert len(set(forward)) == 9


def test_another_process_gives_the_same_batch():
  program = (
    "import hashlib; from normjax import data;"
    "b = data.make('shakespeare').train_batch(3, 1000, 4);"
    "print(hashlib.sha256(b''.join(b[k].tobytes() for k in sorted(b)))"
    ".hexdigest())"
  )
  other = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=True
  ).stdout.strip()
  here = data.make("shakespeare").train_batch(3, 1000, 4)
  assert _digest(here) == other


def _starts(stream, epoch, seed=0):
  """First tokens of the windows of an epoch, in order."""
  size = stream._windows_per_epoch
  return [
    int(stream.train_batch(seed, epoch * size + i, 1)["inputs"][0, 0])
    for i in range(size)
  ]


def test_an_epoch_cuts_the_text_without_overlap_and_covers_it():
  stream = _stream()
  orders = [_starts(stream, epoch) for epoch in range(4)]
  for order in orders:
    cut = sorted(order)
    assert set(np.diff(cut)) == {8}
    assert cut[0] < 8
    # Less than a window is left over at either end.
    assert cut[-1] + 8 + 8 >= 102 - 8
  assert len({tuple(order) for order in orders}) == 4
  assert len({min(order) for order in orders}) > 1


def test_batches_cross_the_end_of_an_epoch():
  stream = _stream()
  size = stream._windows_per_epoch
  batch = stream.train_batch(0, 0, 2 * size + 3)
  first = batch["inputs"][:size, 0].tolist()
  assert first == _starts(stream, 0)
  assert batch["inputs"][size : 2 * size, 0].tolist() == _starts(stream, 1)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
@pytest.mark.parametrize("validation", [50, 49, 41, 2, 8, 9])
def test_evaluation_has_each_target_once(batch_size, validation):
  stream = _stream(validation=validation)
  seen = []
  for batch in stream.evaluation_batches(batch_size):
    assert batch["inputs"].shape == (batch_size, 8)
    counted = batch["weight"] > 0
    np.testing.assert_array_equal(
      batch["targets"][counted], batch["inputs"][counted] + 1
    )
    assert set(np.unique(batch["weight"])) <= {0.0, 1.0}
    seen += batch["targets"][counted].tolist()
  assert sorted(seen) == list(range(1001, 1000 + validation))


def test_a_few_batches_are_the_first_of_all():
  stream = _stream()
  all_of_them = list(stream.evaluation_batches(2))
  few = list(stream.evaluation_batches(2, 2))
  assert len(few) == 2
  for some, whole in zip(few, all_of_them, strict=False):
    np.testing.assert_array_equal(some["inputs"], whole["inputs"])


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"sequence_length": 0}, "sequence_length=0; allowed: an int >= 1"),
    ({"sequence_length": 60}, "sequence_length=60 is too long for a text of 1"),
  ],
)
def test_bad_lengths_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    _stream(**options)


def test_how_often_each_token_is_trained_on():
  counts = _stream(length=103).token_counts()
  assert counts.shape == (2000,)
  assert counts[:103].tolist() == [1] * 103
  assert not counts[103:].any()
