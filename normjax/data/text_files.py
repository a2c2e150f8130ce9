"""Text of one's own: tokenized once, kept in the cache, memory-mapped."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from normjax import configure, errors, validate
from normjax.data import cache, files, splits, text_documents, tokenizer
from normjax.data.tokens import TokenStream
from normjax.registry import near_misses

_NAME = "text_files"
# Documents that are encoded at once; a tokenizer's file sees longer ones in
# pieces, cut at an end of line.
_ENCODED_DOCUMENTS, _PIECE_BYTES = 256, 1 << 20


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
      documents; or the path of a file as the package tokenizers writes it.
    vocab_size: needed for "bpe"; 0 is 256 of bytes, and what the file has.
    end_of_text: a token of the tokenizer's file that ends each document.
    validation_fraction: of the documents; not used with `validation_files`.
    test_fraction: likewise; the test split is only read by `on_split`.
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
    _Tokens.of(tokenizer, vocab_size, end_of_text),
    sequence_length,
    (validation_fraction, test_fraction),
    validation_files,
    on_bad_file,
  )


class _Tokens:
  """What makes tokens of text; "bpe" is trained first.

  Attributes:
    name: "bytes", "bpe" or the path of a file.
    vocab_size: of the model.
    end: bytes that end a document.
    key: names what is made, for the cache.
    encode: documents -> tokens of each; None before "bpe" is trained.
  """

  def __init__(self, name, vocab_size, end, key, encode):
    self.name, self.vocab_size, self.end = name, vocab_size, end
    self.key, self.encode = key, encode

  @classmethod
  def of(cls, name: str, vocab_size: int, end_of_text: str) -> "_Tokens":
    """By the options of the config."""
    validate.count(_NAME, "vocab_size", vocab_size, 0)
    if name in ("bytes", "bpe"):
      if end_of_text:
        validate.refuse(
          _NAME, "end_of_text", end_of_text, f"'' with tokenizer={name!r}"
        )
      if name == "bytes":
        vocab_size = vocab_size or tokenizer.NUM_BYTES
      tokenizer.check(name, vocab_size)
      encode = _as_bytes if name == "bytes" else None
      return cls(name, vocab_size, b"\0", [name, vocab_size], encode)
    return _from_file(name, vocab_size, end_of_text)

  @property
  def dtype(self) -> Any:
    """The smallest that holds every token."""
    if self.vocab_size <= 1 << 8:
      return np.uint8
    return np.uint16 if self.vocab_size <= 1 << 16 else np.int32


def _as_bytes(documents: list[bytes]) -> list[np.ndarray]:
  return [np.frombuffer(text, np.uint8) for text in documents]


def _from_file(name: str, vocab_size: int, end_of_text: str) -> _Tokens:
  """The tokenizer in a file; UserError where it is none, or does not fit."""
  path = Path(name).expanduser()
  if not path.is_file():
    validate.refuse(
      _NAME, "tokenizer", name,
      "'bytes', 'bpe' or the path of a tokenizer.json, and there is no such"
      f" file{near_misses(name, ('bytes', 'bpe'))}",
    )  # fmt: skip
  try:
    text = path.read_bytes()
    model = tokenizer.from_json(text)
  except Exception as error:  # The package raises plain Exceptions.
    raise errors.DataError(
      f"tokenizer={name!r} cannot be read: {error}; allowed: 'bytes', 'bpe', a"
      " file that the package tokenizers writes (tokenizer.json)."
    ) from error
  own_size = 1 + max(model.get_vocab(with_added_tokens=True).values())
  if vocab_size and vocab_size < own_size:
    validate.refuse(
      _NAME, "vocab_size", vocab_size,
      f"0 or at least {own_size}, as many as {name!r} has",
    )  # fmt: skip
  end = model.token_to_id(end_of_text) if end_of_text else None
  if end_of_text and end is None:
    validate.refuse(
      _NAME, "end_of_text", end_of_text, f"'' or a token of {name!r}"
    )
  after = np.zeros(0 if end is None else 1, np.int32) + (end or 0)

  def encode(documents: list[bytes]) -> list[np.ndarray]:
    pieces = [list(_pieces(text)) for text in documents]
    encoded = iter(tokenizer.encode_texts(model, itertools.chain(*pieces)))
    return [
      np.concatenate([*itertools.islice(encoded, len(parts)), after])
      for parts in pieces
    ]

  digest = hashlib.sha256(text).hexdigest()
  return _Tokens(
    name, vocab_size or own_size, b"", [digest, end_of_text], encode
  )


def _pieces(text: bytes) -> Iterator[str]:
  """A document in pieces that a tokenizer's memory can take."""
  start = 0
  while start < len(text):
    end = text.find(b"\n", start + _PIECE_BYTES) + 1 or len(text)
    yield text[start:end].decode()
    start = end


def _text_files(
  asked: Any,
  cut: text_documents.Cut,
  tokens: _Tokens,
  sequence_length: int,
  fractions: tuple[float, float],
  validation_files: str,
  on_bad_file: str,
) -> TokenStream:
  validate.choice(_NAME, "document", cut.unit, text_documents.UNITS)
  splits.check_fractions(_NAME, *fractions)
  cut = cut._replace(end=tokens.end)
  bad = files.BadFiles(_NAME, on_bad_file)
  found = {splits.TRAIN: text_documents.find("files", asked, bad)}
  if validation_files:
    given = text_documents.find("validation_files", validation_files, bad)
    root, names = found[splits.TRAIN]
    found[splits.TRAIN] = root, text_documents.without(root, names, given)
    found[splits.VALIDATION] = given
    fractions = 0.0, fractions[1]
  prints = {
    split: files.fingerprint(root, names)
    for split, (root, names) in found.items()
  }
  values = [each.value for each in prints.values()]

  def documents(
    split: str, noted: files.BadFiles
  ) -> Iterator[tuple[str, bytes]]:
    for text in text_documents.read(*found[split], cut, noted):
      if split != splits.TRAIN:
        yield split, text
        continue
      (drawn,) = [
        name
        for name, index in splits.by_share(
          splits.shares([text.removesuffix(cut.end)]), *fractions
        ).items()
        if len(index)
      ]
      yield drawn, text

  def prepare(draft: Path) -> None:
    noted = files.BadFiles(_NAME, on_bad_file)
    if tokens.encode is None:
      lines = (
        line
        for drawn, text in documents(
          splits.TRAIN, files.BadFiles(_NAME, "skip")
        )
        if drawn == splits.TRAIN
        for line in text.decode().splitlines(True)
      )
      encode = tokenizer.line_encoder(
        tokenizer.trained(tokens.vocab_size, lines, draft)
      )
    else:
      encode = tokens.encode
    stream = itertools.chain(*(documents(split, noted) for split in found))
    facts = _write(draft, stream, encode, tokens.dtype)
    files.write_facts(draft, {**facts, "bad": noted.found})

  key = configure.digest(
    [
      values,
      _names(found),
      cut.unit,
      cut.key,
      cut.end.decode(),
      tokens.key,
      fractions,
      tokenizer.version(),
    ]
  )
  folder = cache.entry(f"tokens/files-{key}", prepare)
  facts = files.read_facts(folder)
  for what, why in facts["bad"]:
    bad.add(what, why)
  bad.settle(asked, sum(len(names) for _, names in found.values()))
  arrays = {
    split: np.memmap(folder / f"{split}.bin", tokens.dtype, "r")
    for split, count in facts["tokens"].items()
    if count
  }
  _check_sizes(arrays, facts["documents"], cut.unit, sequence_length)
  return TokenStream(
    name=_NAME,
    train=arrays[splits.TRAIN],
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


def _names(found: Mapping[str, tuple[Path, list[str]]]) -> dict[str, Any]:
  """The names of files by split, without where they lie."""
  return {split: names for split, (_, names) in found.items()}


def _write(
  folder: Path,
  documents: Iterator[tuple[str, bytes]],
  encode: Callable[[list[bytes]], list[np.ndarray]],
  dtype: Any,
) -> dict[str, dict[str, int]]:
  """Writes the tokens of each split; returns how many of what it has."""
  names = (splits.TRAIN, splits.VALIDATION, splits.TEST)
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
