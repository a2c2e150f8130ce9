"""Text of one's own: tokenized once, kept in the cache, memory-mapped."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from normjax import configure, errors, validate
from normjax.data import (
  cache,
  files,
  splits,
  text_documents,
  text_tokens,
  tokenizer,
)
from normjax.data.tokens import TokenStream

_NAME = "text_files"
_ENCODED_DOCUMENTS = 256  # At once.
# Split -> folder, and names of the files below it; of the first, a hash draws
# the splits that have no files of their own.
_Found = Mapping[str, tuple[Path, list[str]]]


def text_files(
  files: str | None = None,
  sequence_length: int = 256,
  document: str = "file",
  jsonl_key: str = "text",
  tokenizer: str = "bytes",
  vocab_size: int = 0,
  end_of_text: str = "",
  validation_fraction: float = 0.1,
  test_fraction: float = 0.0,
  tuning_fraction: float = 0.1,
  validation_files: str = "",
  on_bad_file: str = "refuse",
) -> TokenStream:
  """UTF-8 files, or JSONL, as one stream of tokens per split.

  Documents are drawn by a hash of their text: the same text is in one split,
  and files that are added do not move the others.

  Args:
    files: a file, a folder, or a pattern such as "corpus/**/*.txt"; relative to
      the current folder.
    sequence_length: tokens of a window.
    document: a whole "file", which a NUL ends; a "paragraph", up to empty
      lines; or a "line". Of .jsonl files always a line's `jsonl_key`.
    jsonl_key: see `document`.
    tokenizer: "bytes"; "bpe", byte-pair encoding trained on the training
      documents; or the path of a tokenizer.json, or a SentencePiece .model.
    vocab_size: needed for "bpe"; 0 is 256 of bytes, and what the file has.
    end_of_text: a token of the tokenizer's file that ends each document.
    validation_fraction: of the documents; not used with `validation_files`.
    test_fraction: likewise.
    tuning_fraction: of the documents, to make choices on; taken from those that
      would train.
    validation_files: as `files`; they are not trained on.
    on_bad_file: "refuse" or "skip": of what is empty, not UTF-8, or without
      the key.

  Raises:
    UserError: an option out of range.
    DataError: no files, bad ones, or too little text for a split.
  """
  return _text_files(
    files,
    text_documents.Cut(document, jsonl_key, b"\0"),
    text_tokens.Tokens.of(tokenizer, vocab_size, end_of_text),
    sequence_length,
    splits.Fractions(test_fraction, validation_fraction, tuning_fraction),
    validation_files,
    on_bad_file,
  )


def _text_files(
  asked: Any,
  cut: text_documents.Cut,
  tokens: text_tokens.Tokens,
  sequence_length: int,
  fractions: splits.Fractions,
  validation_files: str,
  on_bad_file: str,
) -> TokenStream:
  validate.choice(_NAME, "document", cut.unit, text_documents.UNITS)
  fractions.check(_NAME)
  cut = cut._replace(end=tokens.end)
  bad = files.BadFiles(_NAME, on_bad_file)
  found = {splits.TRAIN: text_documents.find("files", asked, bad)}
  if validation_files:
    given = text_documents.find("validation_files", validation_files, bad)
    root, names = found[splits.TRAIN]
    found[splits.TRAIN] = root, text_documents.without(root, names, given)
    found[splits.VALIDATION] = given
    fractions = fractions.without([splits.VALIDATION])
  prints = {
    split: files.fingerprint(root, names)
    for split, (root, names) in found.items()
  }
  values = [each.value for each in prints.values()]

  key = configure.digest(
    [
      values,
      _names(found),
      cut.unit,
      cut.key,
      cut.end.decode(),
      tokens.key,
      fractions,
      tokens.version,
    ]
  )
  folder = cache.entry(
    f"tokens/files-{key}",
    lambda draft: _prepare(draft, found, cut, tokens, fractions),
  )
  facts = files.read_facts(folder)
  for what, why in facts["bad"]:
    bad.add(what, why)
  bad.settle(asked, sum(len(names) for _, names in found.values()))
  arrays = {
    split: np.memmap(folder / f"{split}.bin", tokens.dtype, "r")
    for split, count in facts["tokens"].items()
    if count > 1  # An input, and its target.
  }
  _check_sizes(arrays, facts["documents"], cut.unit, sequence_length)
  return TokenStream(
    name=_NAME,
    train=arrays[splits.TRAIN],
    tuning=arrays.get(splits.TUNING),
    validation=arrays[splits.VALIDATION],
    test=arrays.get(splits.TEST),
    vocab_size=tokens.vocab_size,
    sequence_length=sequence_length,
    bytes_per_token=facts["bytes"][splits.VALIDATION]
    / facts["tokens"][splits.VALIDATION],
    split_bytes=facts["bytes"],
    notes=tuple(bad.notes()),
    provenance={
      "files": str(asked),
      "fingerprint": configure.digest(values),
      "fingerprint_of": prints[splits.TRAIN].of,
      "documents": facts["documents"],
      "bytes": facts["bytes"],
      "tokens": facts["tokens"],
      "tokenizer": tokens.name,
      "tokenizer_key": tokens.key,
      "skipped": bad.provenance(),
    },
  )


def _documents(
  found: _Found,
  cut: text_documents.Cut,
  fractions: splits.Fractions,
  bad: files.BadFiles,
) -> Iterator[tuple[str, bytes]]:
  """(split, text) of each document, in order."""
  for part, (root, names) in found.items():
    for text in text_documents.read(root, names, cut, bad):
      split = part
      if part == splits.TRAIN:
        split = splits.of_key(text.removesuffix(cut.end), fractions)
      yield split, text


def _prepare(
  draft: Path,
  found: _Found,
  cut: text_documents.Cut,
  tokens: text_tokens.Tokens,
  fractions: splits.Fractions,
) -> None:
  """Fills an entry of the cache; what is bad is left out, and noted there."""
  bad = files.BadFiles(_NAME, "skip")
  encode = tokens.encode
  if encode is None:
    own = {splits.TRAIN: found[splits.TRAIN]}
    again = files.BadFiles(_NAME, "skip")  # They are read once more.
    lines = (
      line
      for split, text in _documents(own, cut, fractions, again)
      if split == splits.TRAIN
      for line in text.decode().splitlines(True)
    )
    model = tokenizer.trained(tokens.vocab_size, lines, draft)
    encode = tokenizer.line_encoder(model)
  documents = _documents(found, cut, fractions, bad)
  facts = _write(draft, documents, encode, tokens.dtype)
  files.write_facts(draft, {**facts, "bad": bad.found})


def _names(found: _Found) -> dict[str, Any]:
  """The names of files by split, without where they lie."""
  return {split: names for split, (_, names) in found.items()}


def _write(
  folder: Path,
  documents: Iterator[tuple[str, bytes]],
  encode: Callable[[list[bytes]], list[np.ndarray]],
  dtype: Any,
) -> dict[str, dict[str, int]]:
  """Writes the tokens of each split; returns how many of what it has."""
  names = splits.NAMES
  counts = {
    what: dict.fromkeys(names, 0) for what in ("documents", "bytes", "tokens")
  }
  outs = {split: (folder / f"{split}.bin").open("wb") for split in names}
  try:
    while batch := list(itertools.islice(documents, _ENCODED_DOCUMENTS)):
      encoded = encode([text for _, text in batch])
      for (split, text), tokens in zip(batch, encoded, strict=True):
        outs[split].write(tokens.astype(dtype).tobytes())
        counts["documents"][split] += 1
        counts["bytes"][split] += len(text)
        counts["tokens"][split] += len(tokens)
  finally:
    for out in outs.values():
      out.close()
  return counts


def _check_sizes(
  arrays: Mapping[str, np.ndarray],
  documents: Mapping[str, int],
  unit: str,
  sequence_length: int,
) -> None:
  """Raises DataError where a split has no window."""
  least = {splits.TRAIN: 2 * sequence_length, splits.VALIDATION: 2}
  for split, needed in least.items():
    size = len(arrays.get(split, ()))
    if size < needed:
      smaller = text_documents.UNITS[text_documents.UNITS.index(unit) + 1 :]
      remedies = [f"document={each!r}" for each in smaller]
      if split == splits.VALIDATION:
        remedies += ["a larger validation_fraction", "validation_files"]
      remedies += ["a shorter sequence_length"]
      raise errors.DataError(
        f"the {split} split has {size} tokens of {documents[split]} of"
        f" {sum(documents.values())} documents (document={unit!r}), at least"
        f" {needed} are needed; try {', '.join(remedies)}."
      )
