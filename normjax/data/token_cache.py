"""Tokens of documents, made once and kept in the cache: `data.token_cache`.

A record of an array_record file is a document: its tokens, as integers of the
smallest type that holds the vocabulary. The files of a split are entries of the
cache of so many documents each: what was made stays where the process is ended
meanwhile, and several processes make them together. Batches are bit for bit
those of documents that are encoded as they are drawn.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from normjax import configure
from normjax.data import cache, tokenizer
from normjax.data.tokenizer import Encoder

_LOG = logging.getLogger(__name__)
# Of what is written below; entries of another are not read.
_FORMAT = 1
_PART_DOCUMENTS = 1 << 18
_ENCODED_DOCUMENTS = 1024  # At once.
_SAID_EVERY_S = 60.0
_FILE = "tokens.array_record"
# Each record by itself, for random access; tokens hardly compress.
_OPTIONS = "group_size:1,uncompressed"


class TokenCache:
  """The tokens of splits, each made when it is first read."""

  def __init__(
    self,
    name: str,
    key: Any,
    texts: Callable[[Any, list[int]], list[bytes]],
    encode: Encoder,
    vocab_size: int,
  ):
    """Makes nothing yet.

    Args:
      name: of the data set, for what is said.
      key: of what tokens are made of but for the split: set and encoder.
      texts: from the rows of a split and indices to documents.
      encode: documents to tokens.
      vocab_size: more than any token.
    """
    self._name, self._key, self._texts = name, key, texts
    self._encode, self._dtype = encode, np.dtype(tokenizer.dtype(vocab_size))
    self._sources: dict[str, Any] = {}
    self._lock = threading.Lock()

  def __getstate__(self) -> dict[str, Any]:
    """Another process opens the files anew."""
    return {**vars(self), "_sources": {}, "_lock": None}

  def __setstate__(self, state: dict[str, Any]) -> None:
    """See `__getstate__`."""
    self.__dict__.update(state, _lock=threading.Lock())

  def tokens(self, rows: Any, index: list[int]) -> list[np.ndarray]:
    """Tokens of documents of a split, by their indices."""
    records = self._source(rows).__getitems__(index)
    return [np.frombuffer(record, self._dtype) for record in records]

  def _source(self, rows: Any) -> Any:
    split = str(rows.split)
    with self._lock:
      if split not in self._sources:
        self._sources[split] = self._open(rows, split)
      return self._sources[split]

  def _open(self, rows: Any, split: str) -> Any:
    from array_record.python import array_record_data_source

    key = configure.digest(
      [_FORMAT, _PART_DOCUMENTS, self._key, split, len(rows), self._dtype.str]
    )
    starts = range(0, len(rows), _PART_DOCUMENTS)
    folders = [Path() for _ in starts]
    said = _Said(self._name, split, len(starts))
    # Processes that start at once begin with different parts.
    first = os.getpid() % len(starts)
    for number in [*range(first, len(starts)), *range(first)]:
      documents = range(len(rows))[starts[number] :][:_PART_DOCUMENTS]
      folders[number] = cache.entry(
        f"tokens/documents-{key}-{number:05}-of-{len(starts):05}",
        lambda draft, documents=documents: self._write(draft, rows, documents),
      )
      said.part()
    return array_record_data_source.ArrayRecordDataSource(
      [str(folder / _FILE) for folder in folders]
    )

  def _write(self, draft: Path, rows: Any, documents: range) -> None:
    from array_record.python import array_record_module

    writer = array_record_module.ArrayRecordWriter(str(draft / _FILE), _OPTIONS)
    for start in range(0, len(documents), _ENCODED_DOCUMENTS):
      index = list(documents[start : start + _ENCODED_DOCUMENTS])
      for tokens in self._encode(self._texts(rows, index)):
        writer.write(tokens.astype(self._dtype).tobytes())
    writer.close()


class _Said:
  """Says how far it is, where it takes minutes."""

  def __init__(self, name: str, split: str, num_parts: int):
    self._what, self._num_parts = f"{name} {split}", num_parts
    self._done, self._said_s = 0, time.monotonic()

  def part(self) -> None:
    """One more is there."""
    self._done += 1
    if time.monotonic() - self._said_s > _SAID_EVERY_S:
      self._said_s = time.monotonic()
      _LOG.warning(
        "data: tokens of %s: %d of %d parts are in the cache",
        self._what, self._done, self._num_parts,
      )  # fmt: skip
