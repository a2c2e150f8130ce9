"""Bytes to tokens: one a byte, or byte-pair encoding trained on the text."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from normjax import errors
from normjax.data import cache

NUM_BYTES = 256
_FILE = "tokenizer.json"


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
  if name == "bytes":
    if vocab_size != NUM_BYTES:
      raise errors.UserError(
        f"data.vocab_size={vocab_size}; with tokenizer='bytes' it is 256."
      )
    return dict(text), NUM_BYTES
  if name != "bpe":
    raise errors.UserError(
      f"data.tokenizer={name!r} is unknown; allowed: 'bytes', 'bpe'."
    )
  if vocab_size <= NUM_BYTES:
    raise errors.UserError(
      f"data.vocab_size={vocab_size}; with tokenizer='bpe' it must be more"
      " than 256, the bytes themselves."
    )
  folder = _trained(vocab_size, text)
  with np.load(folder / "tokens.npz") as tokens:
    return {split: tokens[split] for split in text}, vocab_size


def _trained(vocab_size: int, text: Mapping[str, np.ndarray]) -> Path:
  """The cache entry of a trained tokenizer and the text encoded by it."""
  digest = hashlib.sha256()
  for split in sorted(text):
    digest.update(text[split].tobytes())
  key = f"bpe-{vocab_size}-{digest.hexdigest()[:16]}"
  return cache.entry(
    f"tokens/{key}", lambda draft: _train(draft, vocab_size, text)
  )


def _train(
  draft: Path, vocab_size: int, text: Mapping[str, np.ndarray]
) -> None:
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

  def lines(split):
    return text[split].tobytes().decode().splitlines(True)

  model.train_from_iterator(lines("train"), trainer)
  model.save(str(draft / _FILE))
  np.savez(
    draft / "tokens.npz",
    **{
      split: np.concatenate(
        [
          np.asarray(encoding.ids, np.int32)
          for encoding in model.encode_batch(lines(split))
        ]
      )
      for split in text
    },
  )


def load(vocab_size: int, text: Mapping[str, np.ndarray]) -> Any:
  """The trained tokenizer itself, to decode what a model writes."""
  import tokenizers

  return tokenizers.Tokenizer.from_file(str(_trained(vocab_size, text) / _FILE))
