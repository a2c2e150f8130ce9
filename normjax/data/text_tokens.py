"""What makes tokens of a user's documents, by the options of a config."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from normjax import validate
from normjax.data import tokenizer, tokenizer_files
from normjax.registry import near_misses

_OWNER = "text_files"
# A tokenizer's file sees longer documents in pieces, cut at an end of line.
_PIECE_BYTES = 1 << 20


class Tokens:
  """What makes tokens of text; "bpe" is trained first.

  Attributes:
    name: "bytes", "bpe" or the path of a file.
    vocab_size: of the model.
    end: bytes that end a document.
    key: names what is made, for the cache.
    version: of the package that makes them.
    encode: documents -> tokens of each; None before "bpe" is trained.
  """

  def __init__(self, name, vocab_size, end, key, version, encode):
    self.name, self.vocab_size, self.end = name, vocab_size, end
    self.key, self.version, self.encode = key, version, encode

  @classmethod
  def of(cls, name: str, vocab_size: int, end_of_text: str) -> "Tokens":
    """By the options of the config."""
    validate.count(_OWNER, "vocab_size", vocab_size, 0)
    if name in ("bytes", "bpe"):
      if end_of_text:
        validate.refuse(
          _OWNER, "end_of_text", end_of_text, f"'' with tokenizer={name!r}"
        )
      if name == "bytes":
        vocab_size = vocab_size or tokenizer.NUM_BYTES
      tokenizer.check(name, vocab_size)
      encode = _as_bytes if name == "bytes" else None
      key, version = [name, vocab_size], tokenizer.version()
      return cls(name, vocab_size, b"\0", key, version, encode)
    return _from_file(name, vocab_size, end_of_text)

  @property
  def dtype(self) -> Any:
    """The smallest that holds every token."""
    return tokenizer.dtype(self.vocab_size)


def _as_bytes(documents: list[bytes]) -> list[np.ndarray]:
  return [np.frombuffer(text, np.uint8) for text in documents]


def _from_file(name: str, vocab_size: int, end_of_text: str) -> Tokens:
  """The tokenizer in a file; UserError where it is none, or does not fit."""
  path = Path(name).expanduser()
  if not path.is_file():
    validate.refuse(
      _OWNER, "tokenizer", name,
      f"'bytes', 'bpe' or the path of {tokenizer_files.ALLOWED}, and there is"
      f" no such file{near_misses(name, ('bytes', 'bpe'))}",
    )  # fmt: skip
  model, digest = tokenizer_files.read("tokenizer", name)
  if vocab_size and vocab_size < model.size:
    validate.refuse(
      _OWNER, "vocab_size", vocab_size,
      f"0 or at least {model.size}, as many as {name!r} has",
    )  # fmt: skip
  end = model.token(end_of_text) if end_of_text else None
  if end_of_text and end is None:
    validate.refuse(
      _OWNER, "end_of_text", end_of_text, f"'' or a token of {name!r}"
    )
  after = np.zeros(0 if end is None else 1, np.int32) + (end or 0)

  def encode(documents: list[bytes]) -> list[np.ndarray]:
    pieces = [list(_pieces(text)) for text in documents]
    encoded = iter(model.encode(list(itertools.chain(*pieces)), ends=False))
    return [
      np.concatenate([*itertools.islice(encoded, len(parts)), after])
      for parts in pieces
    ]

  size, key = vocab_size or model.size, [digest, end_of_text]
  return Tokens(name, size, b"", key, model.version, encode)


def _pieces(text: bytes) -> Iterator[str]:
  """A document in pieces that a tokenizer's memory can take."""
  start = 0
  while start < len(text):
    end = text.find(b"\n", start + _PIECE_BYTES) + 1 or len(text)
    yield text[start:end].decode()
    start = end
