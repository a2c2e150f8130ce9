"""Text of one's own: documents, splits, tokenizers, and what is refused."""

import json

import numpy as np
import pytest

from normjax import data, errors
from normjax.data import files, splits, text_documents, tokenizer


def _text(index):
  return f"Né {index}: {'so ' * (index % 7)}\n\n  and {index**3}.\n"


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "inner").mkdir()
  for index in range(24):
    below = "inner/" if index % 3 else ""
    (tmp_path / f"{below}{index}.txt").write_text(_text(index))
  return tmp_path


def _make(folder, **options):
  given = {"sequence_length": 8, "validation_fraction": 0.3}
  return data.make("text_files", files=str(folder), **given | options)


def _documents(made, split):
  """The texts of a split of bytes."""
  there = {
    "train": made.train,
    "tuning": made.tuning,
    "validation": made.validation,
    "test": made.test,
  }
  return {*bytes(there[split]).decode().split("\0")} - {""}


def test_every_file_is_a_document_of_one_split(folder):
  made = _make(folder, test_fraction=0.2)
  parts = [_documents(made, split) for split in splits.NAMES]
  assert sum(map(len, parts)) == 24
  assert set().union(*parts) == {_text(index) for index in range(24)}
  assert made.bytes_per_token == 1
  assert isinstance(made.train, np.memmap)
  # By its text: neither other files nor another name move it.
  (folder / "0.txt").rename(folder / "inner/zero.txt")
  (folder / "new.md").write_text("A new one.")
  more = _make(folder, test_fraction=0.2)
  for split, before in zip(splits.NAMES, parts, strict=True):
    assert before <= _documents(more, split)
  assert made.provenance["fingerprint"] != more.provenance["fingerprint"]
  assert more.on_split("test").bytes_per_token == 1


def test_files_patterns_and_folders(folder):
  for asked, count in (("*.txt", 8), ("**/*.txt", 24), ("inner", 16)):
    made = _make(folder / asked)
    assert sum(made.provenance["documents"].values()) == count
  given = _make(folder, validation_files=str(folder / "inner/1*.txt"))
  held_out = {_text(i) for i in range(24) if i % 3 and str(i)[0] == "1"}
  assert _documents(given, "validation") == held_out
  others = _documents(given, "train") | _documents(given, "tuning")
  assert len(others) == 24 - len(held_out)


def test_jsonl_and_what_files_are_cut_into(folder):
  entries = [{"body": f"entry {index}", "id": index} for index in range(20)]
  lines = "\n".join(map(json.dumps, entries))
  (folder / "a.jsonl").write_text(lines + "\n\n")
  made = _make(
    folder / "a.jsonl", jsonl_key="body", sequence_length=4, tuning_fraction=0.0
  )
  assert _documents(made, "train") | _documents(made, "validation") == {
    entry["body"] for entry in entries
  }
  # Nothing of a text is lost where it is cut.
  text = "One.\nTwo.\n\n\n  Three,\r\n\r\nfour\n \n"
  (folder / "0.txt").write_bytes(text.encode())
  for unit, count in (("paragraph", 3), ("line", 4)):
    cut = text_documents.Cut(unit, "", b"\0")
    bad = files.BadFiles("", "refuse")
    pieces = list(text_documents.read(folder, ["0.txt"], cut, bad))
    assert len(pieces) == count
    kept = b"".join(pieces).decode()
    assert kept.split() == text.split()
    assert "  Three" in kept


def test_tokenizers_of_ones_own(folder):
  raw = _make(folder)
  trained = _make(folder, tokenizer="bpe", vocab_size=300)
  assert trained.vocab_size == 300
  assert trained.train.dtype == np.uint16
  assert trained.bytes_per_token > 1
  model = tokenizer._train(280, [_text(index) for index in range(24)])
  model.add_tokens(["<|end|>"])
  model.save(str(folder / "tokenizer.json"))
  options = {"tokenizer": str(folder / "tokenizer.json")}
  own = _make(folder, **options, end_of_text="<|end|>")
  assert own.vocab_size == 281
  ends = np.flatnonzero(own.train == 280)
  assert len(ends) == own.provenance["documents"]["train"]
  texts = [
    model.decode(part.tolist())
    for part in np.split(own.train, ends + 1)
    if len(part)
  ]
  assert {text.removesuffix("<|end|>") for text in texts} == _documents(
    raw, "train"
  )
  assert _make(folder, **options, vocab_size=320).vocab_size == 320
  # A long document goes in pieces, and none of it is lost.
  from normjax.data import text_tokens

  pieces = [*text_tokens._pieces(b"a\nb\n" * 400_000)]
  assert len(pieces) == 2
  assert "".join(pieces) == "a\nb\n" * 400_000


def test_tokens_are_made_once(folder, monkeypatch):
  before = _make(folder).train_batch(0, 0, 4)

  def refuse(*_):
    raise AssertionError("made again")

  monkeypatch.setattr("normjax.data.text_files._write", refuse)
  again = _make(folder).train_batch(0, 0, 4)
  np.testing.assert_array_equal(before["inputs"], again["inputs"])


BAD = {
  "empty": ("z.txt", b" \n"),
  "not UTF-8 at byte 1": ("z.txt", "né".encode("latin1")),
  "no JSON": ("z.jsonl", b'{"text": "good"}\nnope\n'),
  "no key 'text': body, id": ("z.jsonl", b'{"body": "x", "id": 1}\n'),
  "'text' is no text": ("z.jsonl", b'{"text": 3}\n'),
  "not UTF-8": ("z.jsonl", b'{"text": "\xff"}\n'),
}


def test_brackets_without_an_end_are_no_json(folder):
  (folder / "z.jsonl").write_bytes(b"[" * 100_000)
  with pytest.raises(errors.DataError, match="z.jsonl:1 .no JSON"):
    _make(folder)


@pytest.mark.parametrize("why", BAD)
def test_bad_files_are_named_and_refused_or_left_out(folder, why):
  name, content = BAD[why]
  (folder / name).write_bytes(content)
  with pytest.raises(errors.DataError) as refused:
    _make(folder)
  message = str(refused.value)
  assert f"of 25 files of {folder}, 1 cannot be used: {name}" in message
  assert why in message
  left = _make(folder, on_bad_file="skip")
  assert left.provenance["skipped"]["count"] == 1
  assert why in left.notes[0]
  assert sum(left.provenance["documents"].values()) == 24 + (why == "no JSON")


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"files": None}, "files: needed: the path"),
    ({"files": "nope/**/*.txt"}, "there is no .*nope"),
    ({"files": "*.xyz"}, "has no files; needed: a pattern"),
    (
      {"files": "0.txt"},
      "validation split has 0 tokens .*document='paragraph'",
    ),
    ({"document": "page"}, "document='page'; allowed: 'file', 'paragraph', 'l"),
    (
      {"tokenizer": "bites"},
      "tokenizer='bites'; allowed: .* Did you mean 'byt",
    ),
    ({"tokenizer": "0.txt"}, "tokenizer='0.txt' cannot be read: "),
    (
      {"tokenizer": "bpe"},
      "vocab_size=0; with tokenizer='bpe' it must be more",
    ),
    ({"vocab_size": 300}, "vocab_size=300; with tokenizer='bytes' it is 256"),
    ({"end_of_text": "x"}, "end_of_text='x'; allowed: '' with tokenizer='byte"),
    ({"sequence_length": 10_000}, "train split has .* at least 20000 are need"),
    ({"validation_files": "n.txt"}, "validation_files='n.txt': there is no"),
  ],
)
def test_what_cannot_be_is_named(folder, monkeypatch, options, message):
  monkeypatch.chdir(folder)
  with pytest.raises(errors.UserError, match=message):
    data.make("text_files", **{"files": ".", "sequence_length": 8, **options})


@pytest.fixture(scope="module")
def sentence_piece(tmp_path_factory):
  """A small model, as T5's: no token begins a text, one ends it."""
  import sentencepiece

  path = tmp_path_factory.mktemp("spiece") / "spiece.model"
  with path.open("wb") as file:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter([_text(index) for index in range(24)]),
      model_writer=file,
      vocab_size=48,
      bos_id=-1,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      hard_vocab_limit=False,
      minloglevel=2,
    )
  return path


def test_a_sentence_piece_model(folder, sentence_piece):
  import sentencepiece

  model = sentencepiece.SentencePieceProcessor(str(sentence_piece))
  size = model.get_piece_size()
  made = _make(folder, tokenizer=str(sentence_piece), end_of_text="</s>")
  assert made.vocab_size == size
  raw = _documents(_make(folder), "train")
  ends = np.flatnonzero(made.train == 1)
  parts = np.split(made.train, ends + 1)[:-1]
  assert sorted(part.tolist() for part in parts) == sorted(
    [*model.encode(text), 1] for text in raw
  )
  with pytest.raises(errors.UserError, match=f"0 or at least {size}, as many"):
    _make(folder, tokenizer=str(sentence_piece), vocab_size=7)
  with pytest.raises(errors.UserError, match="end_of_text='nope'; allowed: ''"):
    _make(folder, tokenizer=str(sentence_piece), end_of_text="nope")


def test_a_model_that_is_none_is_named(folder):
  (folder / "half.model").write_bytes(b"no model")
  message = "half.model' cannot be read: .*needed: a tokenizer.json or a Sent"
  with pytest.raises(errors.DataError, match=message):
    _make(folder / "*.txt", tokenizer=str(folder / "half.model"))


def test_prepared_text_by_a_sentence_piece_model(named_dir, sentence_piece):
  """Each document ends with the model's end, in place of the NUL."""
  import sentencepiece

  from tests.data import conftest
  from tests.data.test_contract import TENTHS

  model = sentencepiece.SentencePieceProcessor(str(sentence_piece))
  size = model.get_piece_size()
  options = TENTHS | {"validation_split": "validation", "sequence_length": 12}
  options |= {"data_dir": named_dir, "tokenizer": str(sentence_piece)}
  made = data.make("c4", **options, vocab_size=size)
  targets = np.concatenate(
    [b["targets"][b["weight"] > 0] for b in made.evaluation_batches(4)]
  )
  texts = conftest.DOCUMENTS["validation"]
  tokens = [model.encode(text) for text in texts]
  assert (targets == 1).sum() == len(texts)
  assert len(targets) == sum(map(len, tokens)) + len(texts) - 1
  with pytest.raises(errors.UserError, match=f"it must be at least {size}"):
    data.make("c4", **options, vocab_size=size - 1)
