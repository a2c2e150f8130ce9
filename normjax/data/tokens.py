"""A token stream in memory, cut into windows."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from normjax import errors, rng, validate
from normjax.data import dataset, splits


@dataclasses.dataclass(frozen=True)
class TokenStream:
  """Next-token prediction on windows of one long text.

  Training: each epoch cuts the stream, from an offset of its own, into
  windows that do not overlap, and goes through them in an order of its own.
  Evaluation: windows that do not overlap; each token but the first is a
  target once.

  Attributes:
    name: as in a config.
    train: the training stream, (n,), any integer dtype.
    validation: likewise.
    vocab_size: v.
    sequence_length: t.
    bytes_per_token: of the validation text.
    provenance: sizes and hashes.
    test: as `validation`; None where there is none.
    split_bytes: how many bytes each split's text has; None where not known.
    notes: what a run is to note of the data.
    tuning: as `validation`; None where there is none.
  """

  name: str
  train: np.ndarray
  validation: np.ndarray
  vocab_size: int
  sequence_length: int
  bytes_per_token: float | None
  provenance: Mapping[str, Any]
  reads: str = "tokens"
  targets: str = "classes"
  test: np.ndarray | None = None
  split_bytes: Mapping[str, int] | None = None
  notes: tuple[str, ...] = ()
  tuning: np.ndarray | None = None

  def __post_init__(self):
    """Checks that there is a window to train on."""
    validate.count(self.name, "sequence_length", self.sequence_length, 1)
    if self._windows_per_epoch < 1:
      raise errors.UserError(
        f"data {self.name!r}: sequence_length={self.sequence_length} is too"
        f" long for a text of {len(self.train)} tokens."
      )

  @property
  def model_options(self) -> dict[str, Any]:
    """What a model of these tokens needs to know."""
    return {"vocab_size": self.vocab_size}

  def id_range(self) -> tuple[int, int]:
    """The least and the largest token, of all splits."""
    parts = (self.train, self.tuning, self.validation, self.test)
    return dataset.id_range(*(part for part in parts if part is not None))

  def token_counts(self) -> np.ndarray:
    """How often each token is in the training text, (v,)."""
    return np.bincount(self.train, minlength=self.vocab_size)

  def on_split(self, split: str) -> "TokenStream":
    """The same, evaluated on another split.

    Raises:
      UserError: it has no such split.
    """
    part = splits.part(self, split)
    ratio = self.bytes_per_token
    if self.split_bytes is not None:
      ratio = self.split_bytes[split] / len(part)
    return dataclasses.replace(self, validation=part, bytes_per_token=ratio)

  @property
  def num_train_examples(self) -> int:
    """Windows of an epoch."""
    return self._windows_per_epoch

  @property
  def _windows_per_epoch(self) -> int:
    # The offset takes up to one window, and a target follows the last input.
    t = self.sequence_length
    return (len(self.train) - 1 - (t - 1)) // t

  def _windows(self, stream: np.ndarray, starts: np.ndarray) -> dataset.Batch:
    offsets = np.arange(self.sequence_length + 1)
    window = stream[starts[:, None] + offsets].astype(np.int32)
    weight = np.ones((len(starts), self.sequence_length), np.float32)
    return {
      "inputs": window[:, :-1],
      "targets": window[:, 1:],
      "weight": weight,
    }

  def train_batch(self, seed: int, step: int, batch_size: int) -> dataset.Batch:
    """Batch number `step`: a pure function of the arguments."""
    return self.train_rows(seed, step, batch_size, slice(None))

  def train_rows(
    self, seed: int, step: int, batch_size: int, rows: slice
  ) -> dataset.Batch:
    """Some windows of batch number `step`."""
    chosen = dataset.indices(seed, step, batch_size, self._windows_per_epoch)
    offsets = {
      epoch: np.random.default_rng(
        (rng.host_seed(seed, "offset"), epoch)
      ).integers(self.sequence_length)
      for epoch in map(int, np.unique(chosen[:, 0]))
    }
    starts = chosen[:, 1] * self.sequence_length
    starts += np.array([offsets[int(epoch)] for epoch in chosen[:, 0]])
    return self._windows(self.train, starts[rows])

  def evaluation_batches(
    self, batch_size: int, num_batches: int | None = None
  ) -> Iterator[dataset.Batch]:
    """Validation windows, in one fixed shuffled order."""
    t = self.sequence_length
    num_targets = len(self.validation) - 1
    num_windows = -(-num_targets // t)
    padded = np.pad(self.validation, (0, num_windows * t - num_targets))
    for index, weight in dataset.evaluation_slices(
      num_windows, batch_size, num_batches
    ):
      batch = self._windows(padded, index * t)
      is_real = index[:, None] * t + np.arange(t) < num_targets
      batch["weight"] = batch["weight"] * weight[:, None] * is_real
      yield batch
