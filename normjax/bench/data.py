"""How fast batches come: tokens and images per second, nothing trained.

Text: Shakespeare's plays in documents of 2,000 bytes, about C4's mean, by
byte-pair encoding, as windows of a training batch: encoded as they are drawn,
from the cache of tokens, and as one stream in memory. Images: JPEG files,
decoded, cropped at random and resized. Each with batches made when they are
asked for, and ahead on one thread and on two.

`--data=CONFIG` measures the data set of a config in their place.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from normjax import configure, data, errors
from normjax.bench import tables
from normjax.data import ahead, documents, tokenizer
from normjax.data import token_cache as token_cache_lib
from normjax.data.tokens import TokenStream

_COLUMNS = (
  "data", "ahead on", "batch ms", "per second", "of 1.1M tokens/s"
)  # fmt: skip
# 6 operations per token and parameter, 58 million of them, on an H100 at 40% of
# its 989 TFLOP/s: 0.4 x 989e12 / (6 x 58e6).
EATEN_TOKENS_PER_S = 1.1e6
_NOTE = (
  "Medians of rounds in turn. 1.1M tokens per second: what a LLaMA of 60M"
  " parameters would eat on one H100 at 40% of its peak; an assumption, nothing"
  " of it was measured."
)
_THREADS = (0, 1, 2)
_LEAST_ROUNDS, _BATCHES = 3, 8
_TEXT_BATCH, _IMAGE_BATCH = 128, 64
_DOCUMENT_BYTES, _VOCAB_SIZE = 2_000, 4_096
_NUM_IMAGES, _IMAGE_SHAPE, _IMAGE_SIZE = 96, (375, 500, 3), 224


@dataclasses.dataclass
class Subject:
  """What is measured.

  Attributes:
    name: of the data.
    ahead: by what batches are made ahead.
    dataset: what makes them.
    batch_size: examples of a batch.
    unit: "tokens" or "images" or "examples".
    step: the next one.
    batch_s: seconds of a batch, per round.
  """

  name: str
  ahead: str
  dataset: Any
  batch_size: int
  unit: str
  step: int = 0
  batch_s: list[float] = dataclasses.field(default_factory=list)

  def round(self) -> None:
    """Times some batches that follow one another."""
    start_s = time.perf_counter()
    for _ in range(_BATCHES):
      batch = self._next()
    self.batch_s.append((time.perf_counter() - start_s) / _BATCHES)
    # Another place ends the reading ahead, which would go on beside the next
    # subject's round.
    self.step += 1 << 10
    self._next()
    is_tokens = self.unit == "tokens"
    self._amount = batch["inputs"].size if is_tokens else self.batch_size

  def _next(self) -> Mapping[str, np.ndarray]:
    self.step += 1
    return self.dataset.train_batch(0, self.step, self.batch_size)

  def result(self) -> dict[str, Any]:
    """What is written."""
    batch_s = statistics.median(self.batch_s)
    return {
      "name": self.name,
      "ahead": self.ahead,
      "batch_s": batch_s,
      "rounds_s": self.batch_s,
      "unit": self.unit,
      "per_s": self._amount / batch_s,
    }


class _Rows:
  """Documents in memory, as a data source of TFDS has them."""

  split = "train"

  def __init__(self, texts: list[bytes]):
    self._texts = texts

  def __len__(self) -> int:
    return len(self._texts)

  def __getitems__(self, index: list[int]) -> list[dict[str, bytes]]:
    return [{"text": self._texts[i]} for i in index]


def _texts() -> list[bytes]:
  """The plays in pieces that end where a line does."""
  text = bytes(data.make("shakespeare").train)
  texts, start = [], 0
  while start < len(text):
    end = text.find(b"\n", start + _DOCUMENT_BYTES) + 1 or len(text)
    texts.append(text[start:end])
    start = end
  return texts


def _of_text(length: int, batch_size: int) -> Iterator[Subject]:
  texts = _texts()
  rows = _Rows(texts)
  encode, bytes_per_token = tokenizer.document_encoder(
    "bpe", _VOCAB_SIZE, "bench-data", lambda: texts, lambda: texts[:100]
  )
  key = "bench-data", tokenizer.version()
  stored = token_cache_lib.TokenCache(
    "bench", key, documents.texts, encode, _VOCAB_SIZE
  )
  for name, kept in (("encoded as drawn", None), ("token cache", stored)):
    for threads in _THREADS:
      made = documents.Documents(
        name=name,
        train=rows,
        validation=rows,
        encode=encode,
        vocab_size=_VOCAB_SIZE,
        sequence_length=length,
        bytes_per_token=bytes_per_token,
        provenance={},
        stored=kept,
        reading=ahead.Reading(threads),
      )
      yield Subject(f"text, {name}", _on(threads), made, batch_size, "tokens")
  tokens = np.concatenate(stored.tokens(rows, list(range(len(rows)))))
  stream = TokenStream(
    "stream", tokens, tokens[:length], _VOCAB_SIZE, length, None, {}
  )
  yield Subject("text, stream in memory", _on(0), stream, batch_size, "tokens")


def _write_images(folder: Path) -> None:
  """JPEG files that are as hard to decode as photographs: smooth, and grain."""
  from PIL import Image

  draw = np.random.default_rng(0)
  height, width, channels = _IMAGE_SHAPE
  for index in range(_NUM_IMAGES):
    small = draw.integers(256, size=(6, 8, channels)).astype(np.uint8)
    smooth = Image.fromarray(small).resize((width, height), Image.BICUBIC)
    grain = draw.normal(0, 8, _IMAGE_SHAPE)
    pixels = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
    split = "val" if index < 4 else "train"
    path = folder / split / str(index % 2) / f"{index:03}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=85)


def _of_images(folder: Path, batch_size: int) -> Iterator[Subject]:
  _write_images(folder)
  for threads in _THREADS:
    made = data.make(
      "image_folder",
      root=str(folder),
      image_size=_IMAGE_SIZE,
      augment=True,
      tuning_fraction=0.0,
      prepare_up_to_mb=0,
      threads=threads,
    )
    yield Subject("images, JPEG", _on(threads), made, batch_size, "images")


def _of_config(path: str, batch_size: int | None) -> Iterator[Subject]:
  """The data of a config: as it says, and with each number of threads."""
  config = configure.load(path)
  missing = [name for name in ("data", "train") if name not in config]
  if missing:
    raise errors.ConfigError(
      f"--data={path} has no {' and no '.join(missing)} block: needed is the"
      " config of a run, as configs/default.py."
    )
  own = _options(config)
  threads, workers = (config.data.get(k) for k in ("threads", "workers"))
  variants = {_on(threads or 0, workers or 0): own}
  if threads is not None:
    variants |= {_on(n): {**own, "threads": n} for n in _THREADS}
    if workers:
      variants |= {_on(n): {**variants[_on(n)], "workers": 0} for n in _THREADS}
  for label, options in variants.items():
    made = data.make(**options)
    unit = made.reads if made.reads in ("tokens", "images") else "examples"
    size = batch_size or config.train.batch_size
    yield Subject(config.data.name, label, made, size, unit)


def _options(config: configure.ConfigDict) -> dict[str, Any]:
  return dict(configure.to_dict(config)["data"])


def _on(threads: int, workers: int = 0) -> str:
  """In words."""
  if workers:
    return f"{workers} processes"
  noun = "thread" if threads == 1 else "threads"
  return f"{threads} {noun}" if threads else "none"


def run(console: Console, options: Mapping[str, Any]) -> None:
  """Measures all, or the data of `options["data"]`.

  Args:
    console: where the table goes.
    options: the flags of `normjax bench` by name.

  Raises:
    UserError: a config that does not load, or data that is not there.
  """
  report = tables.Report(console, "data", _COLUMNS, _NOTE, options["out"])
  batch_size, path = options["batch_size"], options["data"]
  with tempfile.TemporaryDirectory() as folder:
    if path:
      subjects = [*_of_config(path, batch_size)]
    else:
      subjects = [
        *_of_text(options["length"], batch_size or _TEXT_BATCH),
        *_of_images(Path(folder), batch_size or _IMAGE_BATCH),
      ]
    _measure(subjects, options["repeats"], options["budget_s"])
  for subject in subjects:
    result = subject.result()
    report.add(result, [_row(result)])
  report.show()


def _measure(subjects: list[Subject], repeats: int, budget_s: float) -> None:
  """Rounds in turn, so that a slow spell of the machine hits all."""
  end_s = time.perf_counter() + budget_s * len(subjects)
  for number in range(max(repeats, _LEAST_ROUNDS)):
    if number >= _LEAST_ROUNDS and time.perf_counter() > end_s:
      return
    for subject in subjects:
      subject.round()


def _row(result: Mapping[str, Any]) -> tuple[str, ...]:
  of = result["per_s"] / EATEN_TOKENS_PER_S
  return (
    result["name"],
    result["ahead"],
    tables.milliseconds(result["batch_s"]),
    f"{result['per_s']:,.0f} {result['unit']}",
    f"{of:.2f}" if result["unit"] == "tokens" else "",
  )
