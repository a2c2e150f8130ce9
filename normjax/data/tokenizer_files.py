"""Tokenizers in files: Hugging Face's JSON, SentencePiece's model."""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from normjax import errors

_SENTENCE_PIECE = ".model"
SUFFIXES = (".json", _SENTENCE_PIECE)
# As messages name what may be given.
ALLOWED = "a tokenizer.json or a SentencePiece .model"


class FileTokenizer(Protocol):
  """What a file says of tokens.

  Attributes:
    size: more than any token.
    needed: more than any token but those that the file lists as added, which
      text has only where it spells them out.
    version: of the package that reads the file.
  """

  size: int
  needed: int
  version: str

  def encode(self, texts: Sequence[str], *, ends: bool) -> list[np.ndarray]:
    """Tokens of each text.

    Args:
      texts: any number.
      ends: whether with those that the file puts around a text, mostly one at
        its end.
    """
    ...

  def token(self, text: str) -> int | None:
    """The token that is spelled so; None where there is none."""
    ...


def is_file(name: str) -> bool:
  """Whether a tokenizer is named by the path of a file."""
  return name.endswith(SUFFIXES)


def read(option: str, name: str) -> tuple[FileTokenizer, str]:
  """The tokenizer in a file, and the hash of the file.

  Args:
    option: of the config, for messages.
    name: the path.

  Raises:
    DataError: it cannot be read, or holds no tokenizer.
  """
  kind = _SentencePiece if name.endswith(_SENTENCE_PIECE) else _HuggingFace
  try:
    content = Path(name).expanduser().read_bytes()
    found = kind(content)
  # The packages raise plain Exceptions and RuntimeErrors.
  except Exception as error:
    said = " ".join(str(error).split()) or type(error).__name__
    raise errors.DataError(
      f"{option}={name!r} cannot be read: {said}; needed: {ALLOWED}."
    ) from error
  return found, hashlib.sha256(content).hexdigest()


class _HuggingFace:
  """A tokenizer.json, as the package tokenizers writes it."""

  def __init__(self, content: bytes):
    import tokenizers

    self._model = tokenizers.Tokenizer.from_str(content.decode())
    self._model.no_padding()
    self._model.no_truncation()
    vocabulary = self._model.get_vocab(with_added_tokens=True).values()
    added = self._model.get_added_tokens_decoder()
    own = set(self._model.get_vocab().values()) - set(added)
    self.size = 1 + max(vocabulary)
    self.needed = 1 + max(own, default=0)
    self.version = importlib.metadata.version("tokenizers")

  def encode(self, texts: Sequence[str], *, ends: bool) -> list[np.ndarray]:
    found = self._model.encode_batch(list(texts), add_special_tokens=ends)
    return [np.asarray(each.ids, np.int32) for each in found]

  def token(self, text: str) -> int | None:
    return self._model.token_to_id(text)


class _SentencePiece:
  """A SentencePiece model, as T5's; a text ends with its end, if it has one."""

  def __init__(self, content: bytes):
    import sentencepiece

    self._model = sentencepiece.SentencePieceProcessor(model_proto=content)
    self.size = self.needed = self._model.get_piece_size()
    # Its name too: a key must not take it for the other's.
    version = importlib.metadata.version("sentencepiece")
    self.version = f"sentencepiece {version}"

  def encode(self, texts: Sequence[str], *, ends: bool) -> list[np.ndarray]:
    ends = ends and self._model.eos_id() >= 0
    found = self._model.encode(list(texts), out_type=int, add_eos=ends)
    return [np.asarray(tokens, np.int32) for tokens in found]

  def token(self, text: str) -> int | None:
    token = self._model.piece_to_id(text)
    # What it does not know it answers with the unknown piece.
    return token if self._model.id_to_piece(token) == text else None
