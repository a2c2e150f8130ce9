"""Tokens of prepared sets of text that are kept: equal batches, whole files."""

import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from normjax import data, errors
from normjax.data import token_cache
from tests.data.test_contract import NAMED, digest

BPE = {"tokenizer": "bpe", "vocab_size": 300, "sequence_length": 12}


def _make(folder, name="c4", **options):
  return data.make(name, data_dir=folder, **NAMED[name] | BPE | options)


def _batches(made):
  train = [digest(made.train_batch(seed, step, 5)) for seed, step in _ASKED]
  return train + [digest(b) for b in made.evaluation_batches(3)]


_ASKED = [(0, 0), (0, 1), (1, 7), (0, 40)]


@pytest.mark.parametrize("window", ["stream", "document"])
def test_batches_are_those_without_a_cache(
  named_dir, empty_cache, monkeypatch, window
):
  # 24 documents train: parts of 7, 7, 7 and 3.
  monkeypatch.setattr(token_cache, "_PART_DOCUMENTS", 7)
  plain = _make(named_dir, window=window)
  expected = _batches(plain)
  kept = _make(named_dir, window=window, token_cache=True)
  assert _batches(kept) == expected
  parts = list((empty_cache / "tokens").glob("documents-*-00003-of-00004"))
  assert len(parts) == 1

  def refuse(*_):
    raise AssertionError("made again")

  monkeypatch.setattr(token_cache.TokenCache, "_write", refuse)
  again = _make(named_dir, window=window, token_cache=True)
  assert _batches(again) == expected
  tuning = again.on_split("tuning")
  with pytest.raises(AssertionError, match="made again"):
    next(tuning.evaluation_batches(2))


@pytest.mark.parametrize(
  "other",
  [
    {"vocab_size": 301},
    {"train_split": "train[:70%]"},
    {"tokenizer_documents": 5},
    {"tokenizer": "bytes", "vocab_size": 256},
  ],
  ids=lambda option: next(iter(option)),
)
def test_tokens_made_otherwise_are_not_read(named_dir, empty_cache, other):
  before = _make(named_dir, token_cache=True)
  before.train_batch(0, 0, 2)
  kept = {*(empty_cache / "tokens").glob("documents-*")}
  made = _make(named_dir, token_cache=True, **other)
  assert digest(made.train_batch(0, 0, 2)) == digest(
    _make(named_dir, **other).train_batch(0, 0, 2)
  )
  assert kept < {*(empty_cache / "tokens").glob("documents-*")}


def test_tokens_of_another_version_are_not_read(
  named_dir, empty_cache, monkeypatch
):
  _make(named_dir, token_cache=True).train_batch(0, 0, 2)
  monkeypatch.setattr(token_cache, "_FORMAT", token_cache._FORMAT + 1)
  _make(named_dir, token_cache=True).train_batch(0, 0, 2)
  assert len(list((empty_cache / "tokens").glob("documents-*"))) == 2


def test_a_damaged_part_alone_is_made_again(
  named_dir, empty_cache, monkeypatch
):
  monkeypatch.setattr(token_cache, "_PART_DOCUMENTS", 7)
  expected = _batches(_make(named_dir, token_cache=True))
  (part,) = (empty_cache / "tokens").glob("documents-*-00001-of-00004")
  file = part / token_cache._FILE
  file.write_bytes(file.read_bytes()[:-100])
  made, write = [], token_cache.TokenCache._write

  def noted(self, draft, rows, documents):
    made.append(documents)
    write(self, draft, rows, documents)

  monkeypatch.setattr(token_cache.TokenCache, "_write", noted)
  assert _batches(_make(named_dir, token_cache=True)) == expected
  assert made == [range(7, 14)]


class Rows:
  """Documents as a data source of TFDS has them."""

  split = "train"

  def __init__(self, count):
    self.count = count

  def __len__(self):
    return self.count


def _random_texts(_, index):
  return [np.random.default_rng(i).bytes(3000) for i in index]


def _encode(texts):
  return [np.frombuffer(text, np.uint8) for text in texts]


def test_a_full_disk_says_where_and_leaves_nothing(empty_cache):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  made = token_cache.TokenCache("c4", "key", _random_texts, _encode, 256)
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    with pytest.raises(errors.CacheError, match=r"NORMJAX_CACHE"):
      made.tokens(Rows(100), [0])
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)
  left = [path.name for path in (empty_cache / "tokens").iterdir()]
  assert all(name.endswith(".lock") for name in left), left
  (tokens,) = made.tokens(Rows(100), [99])
  np.testing.assert_array_equal(tokens, _encode(_random_texts(None, [99]))[0])


def test_two_processes_make_each_part_once(empty_cache):
  code = (
    "import os, sys\n"
    "from normjax.data import token_cache\n"
    "from tests.data import test_token_cache as here\n"
    "token_cache._PART_DOCUMENTS = 10\n"
    "write = token_cache.TokenCache._write\n"
    "def noted(self, draft, rows, documents):\n"
    "  print('made', documents.start, flush=True)\n"
    "  write(self, draft, rows, documents)\n"
    "token_cache.TokenCache._write = noted\n"
    "made = token_cache.TokenCache('c4', 'key', here._random_texts,"
    " here._encode, 256)\n"
    "print('ready', flush=True)\n"
    "sys.stdin.readline()\n"
    "made.tokens(here.Rows(50), [49])\n"
  )
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", code],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    for _ in range(2)
  ]
  for process in processes:
    assert process.stdout.readline() == "ready\n"
  told = [process.communicate("go\n", timeout=60)[0] for process in processes]
  lines = sorted("".join(told).splitlines())
  assert lines == [f"made {start}" for start in (0, 10, 20, 30, 40)]
