import numpy as np
import pytest

from normjax.data import examples


def _examples(size=20):
  inputs = np.arange(size * 12, dtype=np.float32).reshape(size, 2, 2, 3)
  labels = np.arange(size) % 4
  return examples.Examples(
    name="counting",
    train=(inputs, labels),
    validation=(inputs + 1000, labels),
    num_classes=4,
    mean=np.asarray(10.0),
    deviation=np.asarray(2.0),
    reads="images",
    provenance={},
  )


def _identity(batch):
  """Which example each row is, from its first pixel."""
  return ((batch["inputs"][:, 0, 0, 0] * 2 + 10) % 1000 / 12).astype(int)


def test_inputs_are_standardized_and_keep_their_labels():
  batch = _examples().train_batch(0, 0, 20)
  index = _identity(batch)
  assert sorted(index) == list(range(20))
  np.testing.assert_array_equal(batch["targets"], index % 4)
  np.testing.assert_allclose(
    batch["inputs"][:, 0, 0, 1], (index * 12 + 1 - 10) / 2
  )
  assert batch["inputs"].dtype == np.float32


def test_each_epoch_has_every_example_once_in_another_order():
  dataset = _examples()
  epochs = [
    np.concatenate(
      [_identity(dataset.train_batch(5, 4 * e + i, 5)) for i in range(4)]
    )
    for e in range(3)
  ]
  for epoch in epochs:
    assert sorted(epoch) == list(range(20))
  assert len({tuple(epoch) for epoch in epochs}) == 3


def test_seeds_and_order_of_access():
  first, again = _examples(), _examples()
  later = [_identity(first.train_batch(1, step, 6)) for step in (9, 0, 4)]
  sooner = [_identity(again.train_batch(1, step, 6)) for step in (4, 0, 9)]
  for a, b in zip(later, sooner[::-1], strict=True):
    np.testing.assert_array_equal(a, b)
  other = _identity(first.train_batch(2, 0, 6))
  assert other.tolist() != later[1].tolist()


@pytest.mark.parametrize("batch_size", [1, 7, 20, 33])
def test_evaluation_has_each_example_once(batch_size):
  seen, total = [], 0.0
  for batch in _examples().evaluation_batches(batch_size):
    assert len(batch["targets"]) == batch_size
    counted = batch["weight"] > 0
    seen += _identity(batch)[counted].tolist()
    total += batch["weight"].sum()
  assert sorted(seen) == list(range(20))
  assert total == 20.0
