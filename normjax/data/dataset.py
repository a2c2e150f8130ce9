"""What training asks of data, and the order of examples in it."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from normjax import errors, rng
from normjax.nn import given

# "inputs", "targets" and "weight"; weight is float32, 0 marks padding. It has
# the shape of targets that are classes; of values it has one axis less. Where
# the data has domains also "domain", the integer id of each example's, (b,).
Batch = dict[str, np.ndarray]


class Dataset(Protocol):
  """A data set that can be trained on.

  One whose epochs end also has `num_train_examples`, the examples of an epoch.
  A set of images also has `corrupted(corruption)`: itself with corrupted
  images where it is evaluated. One that is in memory also has `id_range()`: the
  least and the largest of its tokens or labels. One that has more splits to
  evaluate on has `on_split(split)`: itself, evaluated on "train", "tuning",
  "validation" or "test"; training reads the first alone. One that is
  cross-validated has `for_seed(seed)`: itself as runs of a seed have it, and
  `fold`, what `run.json` says of that. One that left something out has `notes`,
  sentences that go into `run.json`. One that can make a part of a batch has
  `train_rows(seed, step, batch_size, rows)`: those of `train_batch` in the
  slice `rows`; then each of several processes makes its own alone. One whose
  batches have the part "domain" has `num_domains`: ids are 0 to that less 1,
  those of padding, too. One of tokens that
  knows how often each is in the training text has `token_counts()`, (v,).

  Attributes:
    name: as in a config.
    reads: "tokens", "images" or "features": what models must read.
    targets: "classes", integers from 0 to the model's `num_classes` or
      `vocab_size` less 1; or "values", float32 vectors of a regression, each
      of the size that the model knows as `num_classes`.
    model_options: what the data decides of a model, such as `vocab_size`.
    bytes_per_token: of the validation text; None where it is no text.
    provenance: sizes, hashes, versions. Of a user's files, a "fingerprint" of
      their contents: a run does not go on where it is another.
  """

  name: str
  reads: str
  targets: str
  model_options: Mapping[str, Any]
  bytes_per_token: float | None
  provenance: Mapping[str, Any]

  def train_batch(self, seed: int, step: int, batch_size: int) -> Batch:
    """Batch number `step`: a pure function of the arguments."""
    ...

  def evaluation_batches(
    self, batch_size: int, num_batches: int | None = None
  ) -> Iterator[Batch]:
    """The validation split, unless `on_split` chose another.

    Each example once, the last batch padded.
    """
    ...


_PARTS = ("inputs", "targets", "weight")


def check_batch(dataset: Dataset, batch: Batch, batch_size: int) -> None:
  """Raises DataError where a batch lacks a part, or is of another size."""
  sizes = {part: len(batch[part]) for part in _PARTS if part in batch}
  if sizes != dict.fromkeys(_PARTS, batch_size):
    said = ", ".join(f"{part} of {size}" for part, size in sizes.items())
    raise errors.DataError(
      f"data {dataset.name!r} gives a batch with {said or 'nothing'}; needed:"
      f" {', '.join(_PARTS)}, each of {batch_size} examples. The last batch of"
      " an evaluation is padded, with weight 0 there."
    )
  check_domains(dataset, batch)


def check_domains(dataset: Dataset, batch: Batch) -> None:
  """Raises DataError where an example is of no domain that there is.

  What a compiled step is given cannot be refused there.
  """
  if given.DOMAIN not in batch:
    return
  ids, number = batch[given.DOMAIN], getattr(dataset, "num_domains", 0)
  start = f"data {dataset.name!r} gives a batch whose part {given.DOMAIN!r}"
  shape = (len(batch["inputs"]),)
  if ids.shape != shape or not np.issubdtype(ids.dtype, np.integer):
    raise errors.DataError(
      f"{start} is {ids.dtype}{list(ids.shape)}; needed: an integer id of each"
      f" example, {list(shape)}."
    )
  least, largest = id_range(ids)
  if least < 0 or largest >= number:
    raise errors.DataError(
      f"{start} has ids from {least} to {largest}; allowed: 0 to {number - 1},"
      f" by its num_domains={number}."
    )


@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
  generator = np.random.default_rng((rng.host_seed(seed, "data"), epoch))
  return generator.permutation(size)


def indices(seed: int, step: int, batch_size: int, size: int) -> np.ndarray:
  """Which examples are in batch `step`, and in which epoch each stands.

  Epochs follow one another without a gap, each in an order of its own.

  Args:
    seed: of the run.
    step: of the batch.
    batch_size: examples of a batch.
    size: examples of an epoch.

  Returns:
    (batch_size, 2) int64: epoch and index of each example.
  """
  position = step * batch_size + np.arange(batch_size)
  epochs, offsets = np.divmod(position, size)
  return np.stack(
    [
      epochs,
      [
        _epoch_order(seed, int(epoch), size)[offset]
        for epoch, offset in zip(epochs, offsets, strict=True)
      ],
    ],
    axis=1,
  )


def evaluation_slices(
  size: int,
  batch_size: int,
  num_batches: int | None,
  order: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Indices and weights of the evaluation batches.

  The order is one fixed shuffle, so that a few batches are a fair sample,
  unless another is given.

  Yields:
    (batch_size,) indices, padded by repeating the first, and 0/1 weights.
  """
  if order is None:
    order = np.random.default_rng(0).permutation(size)
  starts = range(0, len(order), batch_size)
  for start in starts[:num_batches]:
    chosen = order[start : start + batch_size]
    missing = batch_size - len(chosen)
    weight = np.concatenate([np.ones(len(chosen)), np.zeros(missing)])
    padded = np.concatenate([chosen, np.full(missing, chosen[0])])
    yield padded, weight.astype(np.float32)


def id_range(*arrays: np.ndarray) -> tuple[int, int]:
  """The least and the largest value; (0, 0) where there is none."""
  arrays = tuple(array for array in arrays if array.size)
  if not arrays:
    return 0, 0
  return min(int(a.min()) for a in arrays), max(int(a.max()) for a in arrays)


SCALINGS = ("standardize", "unit")


def check_scaling(name: str, scaling: str) -> None:
  """Raises UserError where images cannot be scaled so."""
  if scaling not in SCALINGS:
    raise errors.UserError(
      f"data {name!r}: scaling={scaling!r}; allowed:"
      f" {', '.join(map(repr, SCALINGS))}."
    )
