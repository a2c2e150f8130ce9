"""Labelled examples in memory: images or feature vectors."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from normjax.data import dataset


@dataclasses.dataclass(frozen=True)
class Examples:
  """Classification of examples that fit in memory.

  Attributes:
    name: as in a config.
    train: (inputs (n, …), labels (n,)); inputs as stored, often uint8.
    validation: likewise.
    num_classes: labels are 0 to num_classes - 1.
    mean: subtracted from the inputs, which are then divided by `deviation`;
      scalars, or one a channel or feature.
    deviation: see `mean`.
    reads: "images" or "features".
    provenance: sizes and hashes.
  """

  name: str
  train: tuple[np.ndarray, np.ndarray]
  validation: tuple[np.ndarray, np.ndarray]
  num_classes: int
  mean: np.ndarray
  deviation: np.ndarray
  reads: str
  provenance: Mapping[str, Any]
  bytes_per_token: None = None

  @property
  def model_options(self) -> dict[str, Any]:
    """What a model of these examples needs to know."""
    return {
      "num_classes": self.num_classes,
      "input_shape": self.train[0].shape[1:],
    }

  def _batch(
    self, split: tuple[np.ndarray, np.ndarray], index: np.ndarray
  ) -> dataset.Batch:
    inputs = (split[0][index].astype(np.float32) - self.mean) / self.deviation
    return {
      "inputs": inputs.astype(np.float32),
      "targets": split[1][index].astype(np.int32),
      "weight": np.ones(len(index), np.float32),
    }

  def train_batch(self, seed: int, step: int, batch_size: int) -> dataset.Batch:
    """Batch number `step`: a pure function of the arguments."""
    size = len(self.train[1])
    index = dataset.indices(seed, step, batch_size, size)[:, 1]
    return self._batch(self.train, index)

  def evaluation_batches(
    self, batch_size: int, num_batches: int | None = None
  ) -> Iterator[dataset.Batch]:
    """Validation examples, in one fixed shuffled order."""
    for index, weight in dataset.evaluation_slices(
      len(self.validation[1]), batch_size, num_batches
    ):
      yield {**self._batch(self.validation, index), "weight": weight}
