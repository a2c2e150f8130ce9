"""Sets of text by their TFDS name, read from a prepared folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normjax import configure, errors, validate
from normjax.data import (
  ahead,
  cuts,
  documents,
  specs,
  splits,
  tfds_source,
  tokenizer,
  tokenizer_files,
)
from normjax.data import token_cache as token_cache_lib
from normjax.data.named import READING, SPLITS


def _text(tfds_name, cut):
  """The factory of a set of text."""
  name = tfds_name.partition("/")[0]

  def begin(
    sequence_length: int = 256,
    tokenizer: str = "bytes",
    vocab_size: int = 256,
    tokenizer_documents: int = 20_000,
    window: str = documents.STREAM,
    train_split: str = cut.train,
    tuning_split: str | None = None,
    validation_split: str = cut.validation,
    test_split: str | None = None,
    threads: int = 1,
    workers: int = 0,
    token_cache: bool = False,
    data_dir: str | None = None,
  ) -> specs.Opening:
    reading = ahead.Reading(threads, workers)
    reading.check(name)
    validate.flags(name, token_cache=token_cache)
    validate.count(name, "tokenizer_documents", tokenizer_documents, 1)
    validate.count(name, "sequence_length", sequence_length, 1)
    validate.choice(name, "window", window, documents.WINDOWS)
    _check_tokenizer(name, tokenizer, vocab_size)
    builder = tfds_source.known(tfds_name, data_dir)
    asked = cut.given(train_split, tuning_split, validation_split, test_split)
    parts = asked.parts(builder)

    def opened() -> documents.Documents:
      _check_files(tfds_name, builder, tokenizer)
      needed = splits.TRAIN, splits.VALIDATION
      sources = cuts.sources(name, parts, needed)
      encode, bytes_per_token = _encoder(
        name, tokenizer, vocab_size, tokenizer_documents, builder, sources
      )
      stored = None
      if token_cache:
        key = _stored_key(
          tokenizer, vocab_size, tokenizer_documents, builder, sources
        )
        stored = token_cache_lib.TokenCache(
          name, key, documents.texts, encode, vocab_size
        )
      return documents.Documents(
        name=name,
        **sources,
        encode=encode,
        vocab_size=vocab_size,
        sequence_length=sequence_length,
        bytes_per_token=bytes_per_token,
        window=window,
        stored=stored,
        reading=reading,
        provenance={
          role: tfds_source.provenance(builder, rows)
          for role, rows in sources.items()
        },
      )

    found = specs.of_tokens(
      name,
      vocab_size,
      sequence_length,
      1.0 if tokenizer == "bytes" else float("nan"),
      parts,
    )
    return specs.Opening(found, opened)

  begin.__doc__ = f"""The TFDS set {tfds_name!r}; see `documents.Documents`.

    Args:
      sequence_length: tokens of a window.
      tokenizer: "bytes", "bpe", or the path of a tokenizer.json or of a
        SentencePiece .model.
      vocab_size: 256 for bytes, more for "bpe", that of the model for a file.
      tokenizer_documents: "bpe" is trained on so many, from the first on.
      window: "stream": what follows a short document fills its window;
        "document": padding does, and a long one is cut.
{SPLITS.format(*cut)}
{READING}
      token_cache: whether tokens are made once, into the cache, when a split is
        first read; else of each batch as it is drawn. Batches are the same.
      data_dir: TFDS's folder of prepared sets; None is TFDS's default.

    Raises:
      UserError: an option out of range, or splits that overlap.
      DataError: it is not prepared there; the message says what to run.
    """
  return specs.factory(begin)


def _check_tokenizer(owner: str, name: str, vocab_size: int) -> None:
  """Checks what can be told without a file."""
  if tokenizer_files.is_file(name):
    validate.count(owner, "vocab_size", vocab_size, 1)
  elif name not in ("bytes", "bpe"):
    validate.refuse(
      owner, "tokenizer", name,
      f"'bytes', 'bpe' or the path of {tokenizer_files.ALLOWED}",
    )  # fmt: skip
  else:
    tokenizer.check(name, vocab_size)


def _check_files(tfds_name: str, builder: Any, name: str) -> None:
  """Says all that is missing at once: to prepare a set may take days.

  Raises:
    MissingDataError: the set, the tokenizer's file, or both are.
    DataError: the set is there in a form that cannot be read.
  """
  lacking = ""
  if tokenizer_files.is_file(name) and not Path(name).expanduser().is_file():
    lacking = (
      f"there is no tokenizer {name!r}. Put the file of the model that is meant"
      " there (of T5 tokenizer.json or spiece.model comes with its weights), or"
      " set data.tokenizer to where it is."
    )
  try:
    tfds_source.check_prepared(tfds_name, builder)
  except errors.MissingDataError as error:
    if not lacking:
      raise
    raise errors.MissingDataError(f"{error}\nAlso, {lacking}") from error
  if lacking:
    raise errors.MissingDataError(f"data {tfds_name!r}: {lacking}")


def _encoder(
  owner: str,
  name: str,
  vocab_size: int,
  num_documents: int,
  builder: Any,
  sources: Mapping[str, Any],
) -> tuple[tokenizer.Encoder, float]:
  def sample(role, limit):
    rows = sources[role]
    return lambda: documents.texts(rows, list(range(min(limit, len(rows)))))

  key = _sample_key(builder, sources)
  held_out = sample("validation", documents.SAMPLE_DOCUMENTS)
  if tokenizer_files.is_file(name):
    return tokenizer.file_encoder(name, vocab_size, key, held_out)
  return tokenizer.document_encoder(
    name,
    vocab_size,
    f"{key}-{num_documents}",
    sample("train", num_documents),
    held_out,
  )


def _sample_key(builder: Any, sources: Mapping[str, Any]) -> str:
  """Names the documents that a tokenizer sees first."""
  version = builder.info.full_name.replace("/", "-")
  parts = [
    str(sources[role].split) for role in (splits.TRAIN, splits.VALIDATION)
  ]
  return f"{version}-{configure.digest(parts)}"


def _stored_key(
  name: str,
  vocab_size: int,
  num_documents: int,
  builder: Any,
  sources: Mapping[str, Any],
) -> list[Any]:
  """Names what tokens are made of: the files of the set, and the encoder."""
  sample = f"{_sample_key(builder, sources)}-{num_documents}"
  shards = {
    split: [info.num_bytes, list(info.shard_lengths)]
    for split, info in builder.info.splits.items()
  }
  return [
    builder.info.full_name,
    shards,
    tokenizer.encoder_key(name, vocab_size, sample),
  ]


c4 = _text("c4/en", cuts.Cut("train[:99%]", "train[99%:]", "validation", ""))
wiki40b = _text(
  "wiki40b/en", cuts.Cut("train[:99%]", "train[99%:]", "validation", "test")
)
lm1b = _text(
  "lm1b", cuts.Cut("train[:98%]", "train[98%:99%]", "train[99%:]", "test")
)
