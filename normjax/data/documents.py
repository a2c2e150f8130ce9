"""Windows of text from documents in random-access storage."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from normjax import rng, validate
from normjax.data import ahead, dataset, splits, token_cache, tokenizer

_CHUNK_DOCUMENTS = 64
# What fills the window of a short document: those behind it, or padding.
STREAM, DOCUMENT = WINDOWS = ("stream", "document")
# Bytes per token are measured on so many documents.
SAMPLE_DOCUMENTS = 1_000


@functools.lru_cache(maxsize=4)
def order(size: int, seed: int) -> Any:
  """An endless order over `size` examples, by random access.

  Every epoch has an order of its own; nothing of length `size` is stored.
  """
  import grain  # Late: Grain starts slowly.

  return grain.MapDataset.range(size).seed(seed).shuffle().repeat()


def chosen(seed: int, step: int, batch_size: int, size: int) -> list[int]:
  """Which examples are in batch `step`, epoch after epoch without a gap."""
  shuffled = order(size, rng.host_seed(seed, "data"))
  positions = range(step * batch_size, (step + 1) * batch_size)
  return [int(shuffled[position]) for position in positions]


@dataclasses.dataclass(frozen=True)
class Documents:
  """Next-token prediction on documents that need not fit in memory.

  A document is its UTF-8 bytes and a NUL, which parts it from the next.

  Training: a window starts with a document of its own, so that every document
  starts one window per epoch. One longer than the window is cut at a random
  place; a shorter one goes on with the documents stored behind it, so that no
  position is padding. Evaluation is exact: the documents in stored order, as
  one stream, in windows that do not overlap; each token but the first is a
  target once. (TFDS shuffles when it prepares.)

  With windows of a document each, a longer one is cut behind its first tokens
  and a shorter one padded, in training and in evaluation; padding has no
  weight. So do the scripts of GaLore (arXiv:2403.03507) and of its followers,
  whose perplexities are of documents' beginnings.

  Attributes:
    name: as in a config.
    train: random access to examples with a "text".
    validation: likewise.
    encode: documents to tokens.
    vocab_size: v.
    sequence_length: t.
    bytes_per_token: of validation text; the NUL counts as a byte.
    provenance: sizes, versions.
    tuning: as `validation`; None where there is none.
    test: likewise.
    window: "stream" or "document".
    stored: tokens that were made before, in place of `encode`.
    reading: by what batches are made ahead.
  """

  name: str
  train: Sequence[Mapping[str, Any]]
  validation: Sequence[Mapping[str, Any]]
  encode: tokenizer.Encoder
  vocab_size: int
  sequence_length: int
  bytes_per_token: float
  provenance: Mapping[str, Any]
  reads: str = "tokens"
  targets: str = "classes"
  tuning: Sequence[Mapping[str, Any]] | None = None
  test: Sequence[Mapping[str, Any]] | None = None
  window: str = STREAM
  stored: token_cache.TokenCache | None = None
  reading: ahead.Reading = ahead.NOTHING_AHEAD

  def __post_init__(self):
    """Checks the window."""
    validate.choice(self.name, "window", self.window, WINDOWS)
    validate.count(self.name, "sequence_length", self.sequence_length, 1)

  @property
  def model_options(self) -> dict[str, Any]:
    """What a model of these tokens needs to know."""
    return {"vocab_size": self.vocab_size}

  def on_split(self, split: str) -> "Documents":
    """The same, evaluated on another split.

    Raises:
      UserError: it has no such split.
    """
    if split == splits.VALIDATION:
      return self
    rows = splits.part(self, split)
    sample = texts(rows, list(range(min(SAMPLE_DOCUMENTS, len(rows)))))
    ratio = sum(map(len, sample)) / sum(map(len, self.encode(sample)))
    return dataclasses.replace(self, validation=rows, bytes_per_token=ratio)

  def train_batch(self, seed: int, step: int, batch_size: int) -> dataset.Batch:
    """Batch number `step`: a pure function of the arguments."""
    return self._ahead.batch(seed, step, batch_size)

  @functools.cached_property
  def _ahead(self) -> ahead.ReadAhead:
    return ahead.ReadAhead(self._train_batch, self.reading)

  def _tokens(self, rows: Any, index: list[int]) -> list[np.ndarray]:
    """Tokens of documents, by index."""
    if self.stored is not None:
      return self.stored.tokens(rows, index)
    return self.encode(texts(rows, index))

  def _train_batch(self, seed, step, batch_size) -> dataset.Batch:
    length = self.sequence_length + 1
    heads = chosen(seed, step, batch_size, len(self.train))
    if self.window == DOCUMENT:
      return self._padded(self.train, heads, batch_size)
    parts = [[tokens] for tokens in self._tokens(self.train, heads)]
    behind = 0
    while short := [
      i for i, part in enumerate(parts) if sum(map(len, part)) < length
    ]:
      behind += 1
      following = [(heads[i] + behind) % len(self.train) for i in short]
      more = self._tokens(self.train, following)
      for i, tokens in zip(short, more, strict=True):
        parts[i].append(tokens)
    generator = np.random.default_rng((rng.host_seed(seed, "offset"), step))
    window = np.empty((batch_size, length), np.int32)
    for row, part, place in zip(
      window, parts, generator.random(batch_size), strict=True
    ):
      start = int(place * max(len(part[0]) - length + 1, 1))
      row[:] = np.concatenate(part)[start : start + length]
    return {
      "inputs": window[:, :-1],
      "targets": window[:, 1:],
      "weight": np.ones((batch_size, self.sequence_length), np.float32),
    }

  def evaluation_batches(
    self, batch_size: int, num_batches: int | None = None
  ) -> Iterator[dataset.Batch]:
    """Validation windows in stored order; reads only what is asked for."""
    if self.window == DOCUMENT:
      starts = range(0, len(self.validation), batch_size)
      for start in starts[:num_batches]:
        stop = min(start + batch_size, len(self.validation))
        index = list(range(start, stop))
        yield self._padded(self.validation, index, batch_size)
      return
    t = self.sequence_length
    per_batch = batch_size * t
    stream = np.zeros(0, np.int32)
    size, start, made = len(self.validation), 0, 0
    while num_batches is None or made < num_batches:
      # The last target of a batch is the first input of the next.
      while len(stream) <= per_batch and start < size:
        index = range(start, min(start + _CHUNK_DOCUMENTS, size))
        tokens = self._tokens(self.validation, list(index))
        stream = np.concatenate([stream, *tokens])
        start = index.stop
      if len(stream) < 2:
        return
      real = min(len(stream) - 1, per_batch)
      padded = np.zeros(per_batch + 1, np.int32)
      padded[: real + 1] = stream[: real + 1]
      weight = (np.arange(per_batch) < real).astype(np.float32)
      yield {
        "inputs": padded[:-1].reshape(batch_size, t),
        "targets": padded[1:].reshape(batch_size, t),
        "weight": weight.reshape(batch_size, t),
      }
      stream = stream[real:]
      made += 1

  def _padded(
    self, rows: Any, index: list[int], batch_size: int
  ) -> dataset.Batch:
    """The beginning of each document, a window each."""
    t = self.sequence_length
    window = np.zeros((batch_size, t + 1), np.int32)
    weight = np.zeros((batch_size, t), np.float32)
    encoded = self._tokens(rows, index)
    for row, real, tokens in zip(window, weight, encoded, strict=False):
      size = min(len(tokens), t + 1)
      row[:size] = tokens[:size]
      real[: max(size - 1, 0)] = 1.0
    return {
      "inputs": window[:, :-1],
      "targets": window[:, 1:],
      "weight": weight,
    }


def texts(rows: Any, index: list[int]) -> list[bytes]:
  """Documents by index, each with its NUL."""
  return [bytes(row["text"]) + b"\0" for row in rows.__getitems__(index)]
