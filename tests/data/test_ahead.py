import numpy as np
import pytest

from normjax import errors
from normjax.data import ahead


def _counting(made):
  def make(seed, step, batch_size):
    made.append((seed, step))
    if step == 7:
      raise errors.DataError("a bad file")
    return {"inputs": np.full(batch_size, 100 * seed + step)}

  return make


def test_runs_side_by_side_have_each_batch_made_once():
  made = []
  reader = ahead.ReadAhead(_counting(made), 2)
  for step in range(5):
    for seed in (1, 2, 1, 2):
      batch = reader.batch(seed, step, 3)
      np.testing.assert_array_equal(batch["inputs"], [100 * seed + step] * 3)
  assert len(made) == len(set(made))
  # What is ahead is at most as much as was asked for, and one in the making.
  assert {step for _, step in made} <= set(range(5 + 3))


def test_an_error_comes_with_its_own_batch():
  reader = ahead.ReadAhead(_counting([]), 2)
  for step in range(7):
    reader.batch(0, step, 1)
  with pytest.raises(errors.DataError, match="a bad file"):
    reader.batch(0, 7, 1)
  assert reader.batch(0, 8, 1)["inputs"] == 8


def test_many_seeds_do_not_pile_up():
  made = []
  reader = ahead.ReadAhead(_counting(made), 1)
  for seed in range(20):
    for step in range(2):
      reader.batch(seed, step, 1)
  assert len(reader._readers) == ahead._MOST_READERS


def test_none_ahead_makes_what_is_asked_for():
  made = []
  reader = ahead.ReadAhead(_counting(made), 0)
  for step in (0, 1, 1, 2):
    reader.batch(0, step, 1)
  assert made == [(0, 0), (0, 1), (0, 1), (0, 2)]
