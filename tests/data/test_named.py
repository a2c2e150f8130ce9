import inspect
import subprocess
import sys
import time

import numpy as np
import pytest

from normjax import build, configure, data, errors
from normjax.data import cuts, named, splits, tfds_source
from tests.data import conftest

TENTHS = {
  "train_split": "train[:80%]",
  "tuning_split": "train[80%:90%]",
  "validation_split": "train[90%:]",
}
NAMES = [
  *("mnist", "fashion_mnist", "cifar10", "cifar100", "cifar10_corrupted"),
  *("imagenet2012", "c4", "wiki40b", "lm1b"),
]


@pytest.mark.parametrize("name", NAMES)
def test_missing_data_says_what_to_run(name, tmp_path, no_network, capfd):
  start = time.monotonic()
  with pytest.raises(errors.DataError) as raised:
    data.make(name, data_dir=str(tmp_path))
  assert time.monotonic() - start < 5
  message = str(raised.value)
  assert f"tfds build {name}" in message
  assert f"--data_dir={tmp_path}" in message
  assert "--file_format=array_record" in message
  assert "TFDS_DATA_DIR" in message
  by_hand = "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar"
  assert (by_hand in message) == (name == "imagenet2012")
  assert capfd.readouterr() == ("", ""), "one message, not TFDS's too"
  assert not list(tmp_path.iterdir())


def test_the_environment_says_where_sets_are(named_dir):
  code = (
    "import sys\nfrom normjax import data\n"
    "text = data.make('c4', train_split='train[:90%]')\n"
    "images = data.make('cifar10')\n"
    "text.train_batch(0, 0, 2), images.train_batch(0, 0, 2)\n"
    "assert 'tensorflow' not in sys.modules\n"
  )
  subprocess.run(
    [sys.executable, "-W", "error", "-c", code],
    env={"TFDS_DATA_DIR": named_dir, "PATH": "", "JAX_PLATFORMS": "cpu"},
    check=True,
  )


def test_wrong_names_give_near_misses(named_dir):
  with pytest.raises(errors.UnknownNameError, match="'cifar10'"):
    data.make("cifar_10")
  with pytest.raises(errors.DataError, match="'gaussian_blur_1'"):
    data.make("cifar10_corrupted", corruption="gausian_blur_1")
  with pytest.raises(errors.UserError, match=r"6 is outside 1 to 5.*fog_5"):
    data.make("cifar10_corrupted", corruption="fog_6")
  with pytest.raises(errors.UserError, match="severity is missing"):
    data.make("cifar10_corrupted", corruption="frost")
  with pytest.raises(errors.DataError, match="Did you mean 'train'"):
    data.make("cifar10", train_split="trian", data_dir=named_dir)
  with pytest.raises(errors.DataError, match="Unrecognized split format"):
    data.make("cifar10", train_split="train[:9x]", data_dir=named_dir)
  with pytest.raises(errors.UserError, match="'augment'"):
    data.make("cifar10", augmnt=True)


def test_a_set_without_random_access_is_refused(named_dir, tmp_path):
  import shutil

  folder = tmp_path / "cifar10"
  shutil.copytree(f"{named_dir}/cifar10", folder)
  for path in folder.rglob("*"):
    if path.suffix == ".json":
      path.write_text(path.read_text().replace("array_record", "tfrecord"))
    elif "array_record" in path.name:
      path.rename(path.with_name(path.name.replace("array_record", "tfrecord")))
  with pytest.raises(errors.DataError, match="stored as tfrecord"):
    data.make("cifar10", data_dir=str(tmp_path))


def test_images_are_the_prepared_ones_standardized(named_dir):
  dataset = data.make(
    "cifar10",
    train_split="train",
    validation_split="",
    test_split="test",
    data_dir=named_dir,
  ).on_split("test")
  batches = list(dataset.evaluation_batches(8))
  shown = np.concatenate([b["inputs"][b["weight"] > 0] for b in batches])
  mean, deviation = map(np.asarray, named._CIFAR10)
  pixels = np.rint((shown * deviation + mean) * 255).astype(np.uint8)
  source = [
    np.asarray(conftest._image(index, (32, 32, 3))) for index in range(21)
  ]
  assert {p.tobytes() for p in pixels} == {s.tobytes() for s in source}
  # One epoch of training shows each image once, with its own label.
  epoch = [dataset.train_batch(2, step, 8) for step in range(5)]
  labels = np.concatenate([batch["targets"] for batch in epoch])
  np.testing.assert_array_equal(np.bincount(labels), 4)
  images = {image.tobytes() for batch in epoch for image in batch["inputs"]}
  assert len(images) == 40


def test_corrupted_trains_on_the_clean_set(named_dir):
  clean = data.make("cifar10", data_dir=named_dir)
  corrupted = data.make(
    "cifar10_corrupted", corruption="fog_3", data_dir=named_dir
  )
  np.testing.assert_array_equal(
    clean.train_batch(0, 5, 4)["inputs"],
    corrupted.train_batch(0, 5, 4)["inputs"],
  )
  assert corrupted.provenance["train"]["tfds"].startswith("cifar10/")
  assert corrupted.provenance["test"]["tfds"].startswith(
    "cifar10_corrupted/fog_3/"
  )
  # What validates is corrupted by ourselves, what tunes is clean.
  np.testing.assert_array_equal(
    next(clean.corrupted("fog_3").evaluation_batches(4))["inputs"],
    next(corrupted.evaluation_batches(4))["inputs"],
  )
  one, other = (
    next(each.on_split("tuning").evaluation_batches(4))["inputs"]
    for each in (clean, corrupted)
  )
  np.testing.assert_array_equal(one, other)
  # Of what we cannot make, nothing validates.
  frost = data.make(
    "cifar10_corrupted", corruption="frost_1", data_dir=named_dir
  )
  message = "no split 'validation'; allowed: 'train', 'tuning', 'test'"
  with pytest.raises(errors.UserError, match=message):
    next(frost.evaluation_batches(4))
  assert next(frost.on_split("test").evaluation_batches(4))["weight"].all()


@pytest.mark.parametrize(
  ("options", "common"),
  [
    ({"train_split": "train", "tuning_split": "train[80%:90%]"}, 4),
    ({"train_split": "train[:80%]", "validation_split": "train[70%:]"}, 4),
    ({"validation_split": "train[-9:]", "train_split": "train[:35]"}, 4),
    ({"train_split": "test[:5]+train[:7]", "validation_split": "test"}, 5),
    ({"validation_split": "test", "test_split": "test"}, 21),
  ],
)
def test_splits_that_overlap_are_refused(named_dir, options, common):
  with pytest.raises(errors.UserError, match=f"have {common} examples in comm"):
    data.make("cifar10", data_dir=named_dir, **options)


def test_a_part_that_is_nothing_is_refused(named_dir):
  with pytest.raises(errors.UserError, match="train_split=''"):
    data.make("mnist", train_split="", data_dir=named_dir)
  for name in ("mnist", "lm1b"):
    with pytest.raises(errors.DataError, match="'train.2%:2%.' has no example"):
      data.make(name, tuning_split="train[2%:2%]", data_dir=named_dir)
  with pytest.raises(errors.UserError, match="validation_split=''"):
    data.make("lm1b", validation_split="", data_dir=named_dir)


@pytest.mark.parametrize("name", NAMES)
def test_the_cut_of_a_config_is_whole_and_apart(name):
  import tensorflow_datasets as tfds

  block = configure.component("data", name)
  there = {"train": 1_281_167, "validation": 50_000, "test": 10_000}
  infos = {
    split: tfds.core.SplitInfo(name=split, shard_lengths=[size], num_bytes=0)
    for split, size in there.items()
  }
  texts = [block.get(f"{split}_split", "") for split in splits.NAMES]
  pieces = [
    tfds.core.ReadInstruction.from_spec(text).to_absolute(infos)
    for text in filter(None, texts)
  ]
  of_train = sorted(
    (piece.from_ or 0, piece.to or there["train"])
    for (piece,) in pieces
    if piece.splitname == "train"
  )
  assert [begin for begin, _ in of_train[1:]] == [e for _, e in of_train[:-1]]
  assert (of_train[0][0], of_train[-1][1]) == (0, there["train"])
  others = [p.splitname for (p,) in pieces if p.splitname != "train"]
  assert len({*others}) == len(others)
  # A factory's own cut is that of its config.
  parameters = inspect.signature(data._REGISTRY.get(name)).parameters
  for split in ("train", "validation"):
    assert parameters[f"{split}_split"].default == block[f"{split}_split"]


def test_parts_of_splits_do_not_overlap(named_dir):
  dataset = data.make(
    "cifar10",
    train_split="train[:80%]",
    validation_split="train[80%:]",
    data_dir=named_dir,
  )
  # Another cut has no part to tune on, and no test set, unless it says so.
  assert {*dataset.provenance} == {"train", "validation"}
  train = {i.tobytes() for i in dataset.train_batch(0, 0, 32)["inputs"]}
  held_out = {
    image.tobytes()
    for batch in dataset.evaluation_batches(8)
    for image in batch["inputs"]
  }
  assert (len(train), len(held_out)) == (32, 8)
  assert not train & held_out


def test_augmentation_changes_training_only(named_dir):
  plain = data.make("cifar10", data_dir=named_dir)
  augmented = data.make("cifar10", augment=True, data_dir=named_dir)
  a, b = (d.train_batch(0, 0, 8) for d in (plain, augmented))
  np.testing.assert_array_equal(a["targets"], b["targets"])
  assert (a["inputs"] != b["inputs"]).any()
  for a, b in zip(
    plain.evaluation_batches(8), augmented.evaluation_batches(8), strict=True
  ):
    np.testing.assert_array_equal(a["inputs"], b["inputs"])


def test_text_is_the_prepared_one(named_dir):
  dataset = data.make(
    "lm1b", data_dir=named_dir, sequence_length=16, **TENTHS, test_split="test"
  ).on_split("test")
  stream = b"".join(
    batch["targets"][batch["weight"] > 0].astype(np.uint8).tobytes()
    for batch in dataset.evaluation_batches(3)
  )
  # TFDS shuffled the documents when it prepared them.
  whole = stream.decode().removesuffix("\0").split("\0")
  expected = conftest.DOCUMENTS["validation"]
  assert sorted([*whole[1:], expected[0][0] + whole[0]]) == sorted(expected)


def test_text_by_pairs_of_bytes(named_dir, empty_cache):
  options = {
    "tokenizer": "bpe",
    "vocab_size": 300,
    "sequence_length": 12,
    "data_dir": named_dir,
  }
  options |= TENTHS | {"validation_split": "validation"}
  dataset = data.make("c4", **options)
  batches = list(dataset.evaluation_batches(4))
  tokens = sum(batch["weight"].sum() for batch in batches) + 1
  num_bytes = sum(len(d.encode()) + 1 for d in conftest.DOCUMENTS["validation"])
  assert dataset.bytes_per_token == pytest.approx(num_bytes / tokens)
  assert dataset.bytes_per_token > 1
  assert dataset.train_batch(0, 0, 8)["inputs"].max() < 300
  again = data.make("c4", **options)
  np.testing.assert_array_equal(
    again.train_batch(1, 2, 3)["inputs"], dataset.train_batch(1, 2, 3)["inputs"]
  )


def test_tfds_mock_data_is_readable(monkeypatch, no_network):
  import tensorflow_datasets as tfds

  class OneByOne:
    """The mock's own answer to many indices at once lacks an argument."""

    split = "train"

    def __init__(self, rows):
      self.rows = rows

    def __len__(self):
      return len(self.rows)

    def __getitems__(self, index):
      return [self.rows[i] for i in index]

  with tfds.testing.mock_data(num_examples=8):
    # It has neither files nor splits, so opening is left out.
    builder = tfds.builder("cifar10")
    rows = OneByOne(builder.as_data_source("train"))
    monkeypatch.setattr(tfds_source, "source", lambda *_: rows)
    monkeypatch.setattr(cuts, "_common", lambda *_: ())
    parts = {"train": (builder, "train"), "validation": (builder, "test")}
    dataset = named.NamedImages("cifar10", parts, named._CIFAR10)
    batch = dataset.train_batch(0, 1, 5)
    total = sum(b["weight"].sum() for b in dataset.evaluation_batches(3))
  assert batch["inputs"].shape == (5, 32, 32, 3)
  assert total == 8


def test_unit_scaling_leaves_pixels_over_255(named_dir):
  standardized, unit = (
    next(
      data.make(
        "cifar10", data_dir=named_dir, scaling=scaling
      ).evaluation_batches(8)
    )["inputs"]
    for scaling in ("standardize", "unit")
  )
  assert unit.min() >= 0.0
  assert unit.max() <= 1.0
  mean, deviation = map(np.asarray, named._CIFAR10)
  # Two roundings of float32 numbers of at most 3.
  np.testing.assert_allclose(
    standardized * deviation + mean, unit, atol=4 * 2**-24
  )
  with pytest.raises(errors.UserError, match="scaling='unti'"):
    data.make("cifar10", data_dir=named_dir, scaling="unti")


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("cifar10", {"augment": True}),
    ("c4", {"tokenizer": "bpe", "vocab_size": 300, "token_cache": True}),
    ("c4", {"tokenizer": "bpe", "vocab_size": 300}),
  ],
)
def test_batches_of_threads_and_processes_are_the_same(
  named_dir, empty_cache, name, options
):
  if name == "c4":
    options = options | TENTHS | {"sequence_length": 12}
  made = [
    data.make(name, data_dir=named_dir, **options, **reading)
    for reading in ({"threads": 0}, {"threads": 2}, {"workers": 2})
  ]
  for step in range(5):
    batches = [each.train_batch(3, step, 4) for each in made]
    for other in batches[1:]:
      for part, array in batches[0].items():
        np.testing.assert_array_equal(array, other[part])


def test_how_fast_batches_come_is_in_no_name(named_dir):
  """Neither a run nor a program is another one by it."""
  config = configure.load("configs/default.py")
  for name in ("c4", "cifar10"):
    plain = configure.override(config, {"data.name": name})
    options = {"data.threads": 3, "data.workers": 2}
    if name == "c4":
      options["data.token_cache"] = True
    fast = configure.override(plain, options)
    assert configure.run_id(fast) == configure.run_id(plain)
    assert build.program_key(fast) == build.program_key(plain)
    assert configure.to_dict(fast)["data"]["threads"] == 3
    assert "threads" not in configure.to_dict(plain)["data"]
