"""Labelled examples in memory: images or feature vectors."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from normjax import rng
from normjax.data import dataset

# (inputs, generator) -> inputs of the same shape.
Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


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
    augment: applied to the standardized training inputs.
  """

  name: str
  train: tuple[np.ndarray, np.ndarray]
  validation: tuple[np.ndarray, np.ndarray]
  num_classes: int
  mean: np.ndarray
  deviation: np.ndarray
  reads: str
  provenance: Mapping[str, Any]
  augment: Augmentation | None = None
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
    batch = self._batch(self.train, index)
    if self.augment is not None:
      generator = np.random.default_rng((rng.host_seed(seed, "augment"), step))
      batch["inputs"] = self.augment(batch["inputs"], generator)
    return batch

  def evaluation_batches(
    self, batch_size: int, num_batches: int | None = None
  ) -> Iterator[dataset.Batch]:
    """Validation examples, in one fixed shuffled order."""
    for index, weight in dataset.evaluation_slices(
      len(self.validation[1]), batch_size, num_batches
    ):
      yield {**self._batch(self.validation, index), "weight": weight}


def crop_and_flip(padding: int = 4) -> Augmentation:
  """Random crops of the padded image, mirrored half of the time.

  He et al. 2015, arXiv:1512.03385, section 4.2: pad by 4 and crop.
  """

  def augment(
    images_byxc: np.ndarray, generator: np.random.Generator
  ) -> np.ndarray:
    b, y, x, _ = images_byxc.shape
    border = (padding, padding)
    padded = np.pad(images_byxc, ((0, 0), border, border, (0, 0)))
    top, left = generator.integers(2 * padding + 1, size=(2, b))
    rows = top[:, None] + np.arange(y)
    columns = left[:, None] + np.arange(x)
    mirrored = generator.random(b) < 0.5
    columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
    return padded[
      np.arange(b)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]

  return augment
