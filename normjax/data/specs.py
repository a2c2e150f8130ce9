"""What a data set gives, told without its files."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from normjax import errors
from normjax.data import dataset, splits

# Part of a batch -> shape of an example's, and dtype.
Parts = Mapping[str, tuple[tuple[int, ...], Any]]


@dataclasses.dataclass(frozen=True)
class Spec:
  """The facts of a data set; a `dataset.Dataset` whose batches are zeros.

  It serves whatever asks for shapes alone. Nothing can be learned from it, and
  training never meets it.

  Attributes:
    name: as in a config.
    reads: see `dataset.Dataset`, like the next three.
    targets: likewise.
    model_options: likewise.
    bytes_per_token: likewise; NaN where only the text would tell.
    parts: of a batch.
    splits: those that there are.
    num_domains: see `dataset.Dataset`.
  """

  name: str
  reads: str
  targets: str
  model_options: Mapping[str, Any]
  bytes_per_token: float | None
  parts: Parts
  splits: Collection[str]
  num_domains: int = 0

  @property
  def provenance(self) -> dict[str, Any]:
    """Nothing: there are no files."""
    return {}

  def shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Of a batch, by part."""
    return {
      part: jax.ShapeDtypeStruct((batch_size, *shape), dtype)
      for part, (shape, dtype) in self.parts.items()
    }

  def on_split(self, split: str) -> "Spec":
    """The same, where there is such a split.

    Raises:
      UserError: there is none.
    """
    return splits.chosen(self.name, split, dict.fromkeys(self.splits, self))

  def train_batch(self, seed: int, step: int, batch_size: int) -> dataset.Batch:
    """Zeros, read-only, which take no memory."""
    del seed, step
    return {
      part: np.broadcast_to(np.zeros((), of.dtype), of.shape)
      for part, of in self.shapes(batch_size).items()
    }

  def evaluation_batches(
    self, batch_size: int, num_batches: int | None = None
  ) -> Iterator[dataset.Batch]:
    """One batch of zeros."""
    if num_batches != 0:
      yield self.train_batch(0, 0, batch_size)


def is_spec(made: Any) -> bool:
  """Whether a data set is its shapes alone: there is nothing to learn."""
  return isinstance(made, Spec)


def of_images(
  name: str, model_options: Mapping[str, Any], there: Collection[str]
) -> Spec:
  """Of labelled images, by what a model of them is told."""
  return Spec(
    name=name,
    reads="images",
    targets="classes",
    model_options=model_options,
    bytes_per_token=None,
    parts={
      "inputs": (tuple(model_options["input_shape"]), np.float32),
      "targets": ((), np.int32),
      "weight": ((), np.float32),
    },
    splits=there,
  )


def of_tokens(
  name: str,
  vocab_size: int,
  sequence_length: int,
  bytes_per_token: float,
  there: Collection[str],
) -> Spec:
  """Of windows of text, whose targets are the next tokens."""
  window = (sequence_length,)
  return Spec(
    name=name,
    reads="tokens",
    targets="classes",
    model_options={"vocab_size": vocab_size},
    bytes_per_token=bytes_per_token,
    parts={
      "inputs": (window, np.int32),
      "targets": (window, np.int32),
      "weight": (window, np.float32),
    },
    splits=there,
  )


def of_dataset(made: Any) -> Spec:
  """Of data that is there, by a batch of one example."""
  batch = made.train_batch(0, 0, 1)
  return Spec(
    name=made.name,
    reads=made.reads,
    targets=made.targets,
    model_options=dict(made.model_options),
    bytes_per_token=made.bytes_per_token,
    parts={part: (a.shape[1:], a.dtype) for part, a in batch.items()},
    splits=[split for split in splits.NAMES if _has(made, split)],
    num_domains=getattr(made, "num_domains", 0),
  )


def _has(made: Any, split: str) -> bool:
  """Whether a data set can be evaluated on a split."""
  if not hasattr(made, "on_split"):
    return split == splits.VALIDATION
  try:
    made.on_split(split)
  except errors.UserError:
    return False
  return True


class Opening(NamedTuple):
  """Data that is about to be opened.

  Attributes:
    spec: what it gives.
    open: makes the data set.
  """

  spec: Spec
  open: Callable[[], Any]


def factory(begin: Callable[..., Opening]) -> Callable[..., Any]:
  """A factory of data sets whose `spec(**options)` reads no file.

  Both check the options, and say what the data gives, by one function.

  Args:
    begin: from options to what is to be opened; reads no file of the data.
  """

  @functools.wraps(begin)
  def make(*args: Any, **options: Any) -> Any:
    return begin(*args, **options).open()

  @functools.wraps(begin)
  def spec(*args: Any, **options: Any) -> Spec:
    return begin(*args, **options).spec

  make.spec = spec  # type: ignore[attr-defined]
  return make
