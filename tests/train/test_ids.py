"""Tokens and labels are checked against the model before it is compiled."""

import dataclasses

import numpy as np
import pytest

from normjax import build, errors
from normjax.data import dataset as dataset_lib
from normjax.objectives import cross_entropy
from normjax.train import program
from tests import support


class _Streamed:
  """A set that cannot be looked at as a whole."""

  def __init__(self, held):
    self._held = held

  def __getattr__(self, name):
    if name == "id_range":
      raise AttributeError(name)
    return getattr(self._held, name)


def _labels(held, split, change):
  inputs, labels = getattr(held, split)
  return dataclasses.replace(held, **{split: (inputs, change(labels))})


@pytest.mark.parametrize(
  ("config", "change", "message"),
  [
    (
      support.tiny(),
      lambda held: dataclasses.replace(held, vocab_size=100),
      "data 'shakespeare': tokens .*; with vocab_size=100 they must be 0 to 99",
    ),
    (
      support.tiny(),
      lambda held: _Streamed(dataclasses.replace(held, vocab_size=100)),
      "tokens of the first training batch go from 10 to .* vocab_size=100",
    ),
    (
      support.tiny_resnet(),
      lambda held: _labels(held, "train", lambda labels: labels + 1),
      "data 'digits': labels go from 0 to 10; with num_classes=10",
    ),
    (
      support.tiny_resnet(),
      lambda held: _Streamed(
        _labels(held, "validation", lambda labels: labels - 1)
      ),
      "labels of the first evaluation batch go from -1 to .* num_classes=10",
    ),
    # One example of very many, in no first batch.
    (
      support.tiny_resnet(),
      lambda held: _labels(
        held,
        "train",
        lambda labels: np.where(np.arange(len(labels)), labels, 77),
      ),
      "data 'digits': labels go from 0 to 77; with num_classes=10",
    ),
  ],
  ids=["tokens", "streamed_tokens", "labels", "streamed_labels", "one"],
)
def test_ids_out_of_range_are_named(monkeypatch, config, change, message):
  wrong = change(build.dataset(config))
  monkeypatch.setattr(build, "dataset", lambda config: wrong)
  monkeypatch.setattr(program, "_PROGRAMS", {})
  with pytest.raises(errors.UserError, match=message):
    program.get(config)


def test_the_range_of_nothing():
  assert dataset_lib.id_range(np.zeros(0, np.int32)) == (0, 0)
  assert dataset_lib.id_range(np.array([3]), np.array([[-2]])) == (-2, 3)


def test_a_target_that_is_no_class():
  logits = np.zeros((2, 5), np.float32)
  weight = np.array([1.0, 0.0], np.float32)
  with pytest.raises(
    errors.UserError, match=r"targets go from 1 to 5; with nu"
  ):
    cross_entropy.weighted_sums(logits, np.array([1, 5]), weight)
