"""Bytes to tokens: one a byte, byte-pair encoding of the text, or a file."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from normjax import errors
from normjax.data import cache, tokenizer_files

NUM_BYTES = 256
_FILE = "tokenizer.json"
_FACTS = "facts.json"


def check(name: str, vocab_size: int) -> None:
  """Raises UserError: an unknown tokenizer, or a size it cannot have."""
  if name not in ("bytes", "bpe"):
    raise errors.UserError(
      f"data.tokenizer={name!r} is unknown; allowed: 'bytes', 'bpe'."
    )
  if name == "bytes" and vocab_size != NUM_BYTES:
    raise errors.UserError(
      f"data.vocab_size={vocab_size}; with tokenizer='bytes' it is 256."
    )
  if name == "bpe" and vocab_size <= NUM_BYTES:
    raise errors.UserError(
      f"data.vocab_size={vocab_size}; with tokenizer='bpe' it must be more"
      " than 256, the bytes themselves."
    )


def encode(
  name: str, vocab_size: int, text: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], int]:
  """Tokens of each split, and how many different ones there may be.

  Args:
    name: "bytes", or "bpe", trained on `text["train"]`.
    vocab_size: 256 for bytes, more for "bpe".
    text: uint8 by split.

  Raises:
    UserError: an unknown tokenizer, or a size that it cannot have.
  """
  check(name, vocab_size)
  if name == "bytes":
    return dict(text), NUM_BYTES
  folder = _trained(vocab_size, text)
  with np.load(folder / "tokens.npz") as tokens:
    return {split: tokens[split] for split in text}, vocab_size


def _lines(text: np.ndarray) -> list[str]:
  return text.tobytes().decode().splitlines(True)


def _trained(vocab_size: int, text: Mapping[str, np.ndarray]) -> Path:
  """The cache entry of a trained tokenizer and the text encoded by it."""
  digest = hashlib.sha256()
  for split in sorted(text):
    digest.update(text[split].tobytes())

  def prepare(draft: Path) -> None:
    model = _train(vocab_size, _lines(text["train"]))
    model.save(str(draft / _FILE))
    tokens = {
      split: np.concatenate(_encode(model, _lines(text[split])))
      for split in text
    }
    np.savez(draft / "tokens.npz", **tokens)

  key = f"bpe-{vocab_size}-{digest.hexdigest()[:16]}"
  return cache.entry(f"tokens/{key}", prepare)


def _train(vocab_size: int, text: Iterable[str]) -> Any:
  import tokenizers

  model = tokenizers.Tokenizer(tokenizers.models.BPE())
  pre = tokenizers.pre_tokenizers
  model.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
  model.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=vocab_size,
    initial_alphabet=pre.ByteLevel.alphabet(),
    show_progress=False,
  )
  model.train_from_iterator(text, trainer)
  return model


def _encode(model: Any, text: Iterable[str]) -> list[np.ndarray]:
  return [
    np.asarray(encoding.ids, np.int32)
    for encoding in model.encode_batch(list(text))
  ]


def version() -> str:
  """Of the package that trains and encodes."""
  return importlib.metadata.version("tokenizers")


def trained(vocab_size: int, text: Iterable[str], folder: Path) -> Any:
  """Byte-pair encoding trained on a text, kept in a folder."""
  model = _train(vocab_size, text)
  model.save(str(folder / _FILE))
  return model


def line_encoder(model: Any) -> "Encoder":
  """Encodes documents line by line, as `encode` does."""

  def encode_documents(documents: list[bytes]) -> list[np.ndarray]:
    return [
      np.concatenate(_encode(model, text.decode().splitlines(True)))
      for text in documents
    ]

  return encode_documents


def load(vocab_size: int, text: Mapping[str, np.ndarray]) -> Any:
  """The trained tokenizer itself, to decode what a model writes."""
  import tokenizers

  return tokenizers.Tokenizer.from_file(str(_trained(vocab_size, text) / _FILE))


# One document to its tokens; many at once, as some encode in parallel.
Encoder = Callable[[list[bytes]], list[np.ndarray]]


def document_encoder(
  name: str,
  vocab_size: int,
  key: str,
  train_sample: Callable[[], list[bytes]],
  validation_sample: Callable[[], list[bytes]],
) -> tuple[Encoder, float]:
  """An encoder for documents that are too many to hold in memory.

  Args:
    name: "bytes" or "bpe".
    vocab_size: 256 for bytes, more for "bpe".
    key: names the samples, so that they are read only once.
    train_sample: the documents to train "bpe" on.
    validation_sample: the documents to measure bytes per token on.

  Returns:
    The encoder, and bytes per token of the validation sample.

  Raises:
    UserError: an unknown tokenizer, or a size that it cannot have.
  """
  check(name, vocab_size)
  if name == "bytes":
    return lambda texts: [np.frombuffer(t, np.uint8) for t in texts], 1.0
  import tokenizers

  def prepare(draft: Path) -> None:
    model = _train(vocab_size, (text.decode() for text in train_sample()))
    model.save(str(draft / _FILE))
    sample = validation_sample()
    tokens = _encode(model, [text.decode() for text in sample])
    ratio = sum(map(len, sample)) / sum(map(len, tokens))
    (draft / _FACTS).write_text(json.dumps({"bytes_per_token": ratio}))

  folder = cache.entry(f"tokens/bpe-{vocab_size}-{key}", prepare)
  model = tokenizers.Tokenizer.from_file(str(folder / _FILE))
  facts = json.loads((folder / _FACTS).read_text())
  return (
    lambda texts: _encode(model, [text.decode() for text in texts]),
    facts["bytes_per_token"],
  )


def file_encoder(
  name: str,
  vocab_size: int,
  key: str,
  validation_sample: Callable[[], list[bytes]],
) -> tuple[Encoder, float]:
  """As `document_encoder`, by a file; it adds what the file says to add.

  That is mostly a token at an end, in place of the NUL that documents have.

  Args:
    name: the path of a file that `tokenizer_files` reads.
    vocab_size: of the model: more than any token but those that the file lists
      as added, which text has only where it spells them out.
    key: names the sample, so that it is read only once.
    validation_sample: see `document_encoder`.

  Raises:
    UserError: a vocabulary that the file does not fit.
    DataError: it holds no tokenizer.
  """
  model, digest = tokenizer_files.read("data.tokenizer", name)
  if vocab_size < model.needed:
    raise errors.UserError(
      f"data.vocab_size={vocab_size}; with tokenizer={name!r} it must be at"
      f" least {model.needed}."
    )

  def encode_documents(documents: list[bytes]) -> list[np.ndarray]:
    texts = [text.removesuffix(b"\0").decode() for text in documents]
    encoded = model.encode(texts, ends=True)
    for tokens, shown in zip(encoded, texts, strict=True):
      if tokens.max(initial=0) >= vocab_size:
        raise errors.DataError(
          f"a document has the token {tokens.max()}, which a model of"
          f" data.vocab_size={vocab_size} does not have: {shown[:60]!r} …"
        )
    return encoded

  def prepare(draft: Path) -> None:
    sample = validation_sample()
    num_tokens = sum(map(len, encode_documents(sample)))
    facts = {"bytes_per_token": sum(map(len, sample)) / num_tokens}
    (draft / _FACTS).write_text(json.dumps(facts))

  entry = f"tokens/file-{digest[:16]}-{vocab_size}-{key}"
  folder = cache.entry(entry, prepare)
  facts = json.loads((folder / _FACTS).read_text())
  return encode_documents, facts["bytes_per_token"]


def encoder_key(name: str, vocab_size: int, key: str) -> list[str | int]:
  """Names what an encoder makes of a text.

  Args:
    name: "bytes", "bpe" or the path of a file.
    vocab_size: of the model.
    key: names the sample that "bpe" is trained on.
  """
  if name == "bytes":
    return [name]
  if name == "bpe":
    return [name, vocab_size, key, version()]
  model, digest = tokenizer_files.read("data.tokenizer", name)
  return [digest, vocab_size, model.version]


def dtype(vocab_size: int) -> Any:
  """The smallest type that holds every token."""
  if vocab_size <= 1 << 8:
    return np.uint8
  return np.uint16 if vocab_size <= 1 << 16 else np.int32
