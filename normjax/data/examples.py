"""Labelled examples in memory: images or feature vectors."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from normjax import errors, rng
from normjax.data import augment, corruptions, dataset, folds, splits
from normjax.data import domains as domains_lib
from normjax.nn import given


@dataclasses.dataclass(frozen=True)
class Rows:
  """Some rows of an array, which is read where they are asked for.

  Attributes:
    array: (n, …); may be memory-mapped.
    index: which rows.
  """

  array: np.ndarray
  index: np.ndarray

  def __len__(self) -> int:
    """How many rows."""
    return len(self.index)

  def __getitem__(self, chosen: Any) -> np.ndarray:
    """The rows at these places."""
    return self.array[self.index[chosen]]

  @property
  def shape(self) -> tuple[int, ...]:
    """Of all rows together."""
    return len(self.index), *self.array.shape[1:]

  @property
  def itemsize(self) -> int:
    """Bytes of a number."""
    return self.array.itemsize


@dataclasses.dataclass(frozen=True)
class Examples:
  """Classification, or regression, of examples as arrays.

  Attributes:
    name: as in a config.
    train: (inputs (n, …), labels (n,)); inputs as stored, often uint8, an
      array or `Rows`. Of values to predict, (n, d) in place of labels.
    validation: likewise.
    num_classes: labels are 0 to num_classes - 1; d of values.
    mean: subtracted from the inputs, which are then divided by `deviation`;
      scalars, or one per channel or feature.
    deviation: see `mean`.
    reads: "images" or "features".
    provenance: sizes and hashes.
    white: of images, the value of a white pixel; black is 0.
    corruption: of the validation images, "<kind>_<severity>"; none if empty.
    order: of the validation examples; None is one fixed shuffle.
    targets: "classes" or "values".
    test: as `validation`; None where there is none.
    target_mean: subtracted from values, (d,), which are then divided by
      `target_deviation`.
    target_deviation: see `target_mean`.
    shifted: whether training images are shifted, by `augment.crop_and_flip`.
    mirror: whether those are mirrored, too.
    notes: what a run is to note of the data.
    tuning: as `validation`; None where there is none.
    folds: of a set that is cross-validated, itself at seeds 0, 1, …
    fold: then the number of the fold, and what the provenance says of it alone.
    domains: which domain each example is from, by a column of the inputs;
      None: no column says it.
    domain_ids: the same, (n,) integers of each split that there is, by name;
      None: they do not say it.
  """

  name: str
  train: tuple[np.ndarray, np.ndarray]
  validation: tuple[np.ndarray, np.ndarray]
  num_classes: int
  mean: np.ndarray
  deviation: np.ndarray
  reads: str
  provenance: Mapping[str, Any]
  white: float = 255.0
  corruption: str = ""
  order: np.ndarray | None = None
  targets: str = "classes"
  bytes_per_token: None = None
  test: tuple[np.ndarray, np.ndarray] | None = None
  target_mean: np.ndarray | float = 0.0
  target_deviation: np.ndarray | float = 1.0
  shifted: bool = False
  mirror: bool = True
  notes: tuple[str, ...] = ()
  tuning: tuple[np.ndarray, np.ndarray] | None = None
  folds: tuple["Examples", ...] = ()
  fold: Mapping[str, Any] | None = None
  domains: domains_lib.Domains | None = None
  domain_ids: Mapping[str, np.ndarray] | None = None

  @property
  def model_options(self) -> dict[str, Any]:
    """What a model of these examples needs to know."""
    return {
      "num_classes": self.num_classes,
      "input_shape": self.train[0].shape[1:],
    }

  def id_range(self) -> tuple[int, int]:
    """The least and the largest label, of all splits."""
    parts = (self.train, self.tuning, self.validation, self.test)
    return dataset.id_range(*(part[1] for part in parts if part is not None))

  @functools.cached_property
  def num_domains(self) -> int:
    """How many domains there are; 0: batches do not say any."""
    if self.domain_ids is not None:
      return 1 + dataset.id_range(*self.domain_ids.values())[1]
    return 0 if self.domains is None else self.domains.number

  def domains_of(self, split: str, index: np.ndarray) -> np.ndarray | None:
    """The domains of some examples of a split, (n,); None: nothing says it."""
    if self.domain_ids is not None:
      return self.domain_ids[split][index].astype(np.int32)
    if self.domains is None:
      return None
    return self.domains.of(getattr(self, split)[0][index])

  @property
  def num_train_examples(self) -> int:
    """Examples of an epoch."""
    return len(self.train[1])

  def corrupted(self, corruption: str) -> "Examples":
    """The same with corrupted validation images.

    Args:
      corruption: "<kind>_<severity>"; see `corruptions.corrupt`.

    Raises:
      UserError: features are no images.
    """
    if self.reads != "images":
      raise errors.UserError(
        f"data {self.name!r} gives {self.reads}; only images can be corrupted."
      )
    return dataclasses.replace(self, corruption=corruption)

  def for_seed(self, seed: int) -> "Examples":
    """Itself as runs of a seed have it; see `normjax.data.folds`."""
    if not self.folds:
      return self
    return self.folds[folds.of_seed(seed, len(self.folds))]

  def on_split(self, split: str) -> "Examples":
    """The same, evaluated on another split.

    Raises:
      UserError: it has no such split.
    """
    if split == splits.VALIDATION:
      return self
    part = splits.part(self, split)
    ids = self.domain_ids
    if ids is not None:
      ids = {**ids, splits.VALIDATION: ids[split]}
    return dataclasses.replace(
      self, validation=part, domain_ids=ids, order=None
    )

  def in_order(self, order: np.ndarray) -> "Examples":
    """The same, evaluated on these validation examples, in this order.

    Args:
      order: indices, as the functions of `streams` give them.
    """
    return dataclasses.replace(self, order=order)

  def _batch(
    self,
    stored: np.ndarray,
    labels: np.ndarray,
    domains: np.ndarray | None,
  ) -> dataset.Batch:
    inputs = (stored.astype(np.float32) - self.mean) / self.deviation
    if self.targets == "values":
      values = (labels - self.target_mean) / self.target_deviation
      targets = values.astype(np.float32)
    else:
      targets = labels.astype(np.int32)
    batch = {
      "inputs": inputs.astype(np.float32),
      "targets": targets,
      "weight": np.ones(len(labels), np.float32),
    }
    if domains is not None:
      batch[given.DOMAIN] = domains
    return batch

  def train_batch(self, seed: int, step: int, batch_size: int) -> dataset.Batch:
    """Batch number `step`: a pure function of the arguments."""
    return self.train_rows(seed, step, batch_size, slice(None))

  def drawn(self, seed: int, step: int, batch_size: int) -> np.ndarray:
    """Which training examples are in batch number `step`, (batch_size,)."""
    size = len(self.train[1])
    return dataset.indices(seed, step, batch_size, size)[:, 1]

  def train_rows(
    self, seed: int, step: int, batch_size: int, rows: slice
  ) -> dataset.Batch:
    """Some examples of batch number `step`."""
    index = self.drawn(seed, step, batch_size)
    if not self.shifted:
      return self.of_training(index[rows])
    # One generator shifts them all.
    batch = self.of_training(index)
    generator = np.random.default_rng((rng.host_seed(seed, "augment"), step))
    batch["inputs"] = augment.crop_and_flip(
      batch["inputs"], generator, mirror=self.mirror
    )
    return {name: part[rows] for name, part in batch.items()}

  def of_training(self, index: np.ndarray) -> dataset.Batch:
    """A batch of these training examples, none of them shifted."""
    inputs, labels = self.train
    domains = self.domains_of(splits.TRAIN, index)
    return self._batch(inputs[index], labels[index], domains)

  def evaluation_batches(
    self, batch_size: int, num_batches: int | None = None
  ) -> Iterator[dataset.Batch]:
    """Validation examples, in one fixed order."""
    inputs, labels = self.validation
    for index, weight in dataset.evaluation_slices(
      len(labels), batch_size, num_batches, self.order
    ):
      stored = inputs[index]
      if self.corruption:
        stored = self._corrupt(stored, index)
      domains = self.domains_of(splits.VALIDATION, index)
      yield {**self._batch(stored, labels[index], domains), "weight": weight}

  def _corrupt(self, stored: np.ndarray, index: np.ndarray) -> np.ndarray:
    # The corrupted images are a data set of their own: one seed for all runs.
    if stored.dtype == np.uint8:
      return corruptions.corrupt(stored, self.corruption, 0, index)
    scaled = np.asarray(stored / self.white, stored.dtype)
    return self.white * corruptions.corrupt(scaled, self.corruption, 0, index)
