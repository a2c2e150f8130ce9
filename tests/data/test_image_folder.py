"""Images of one's own: what is found, read, split, refused and left out."""

import os
import shutil

import numpy as np
import pytest

from normjax import data, errors
from normjax.data import image_files
from tests.data.conftest import write_images
from tests.data.test_contract import digest

SIZED = {"image_size": 8, "validation_fraction": 0.4}


@pytest.fixture
def folder(tmp_path):
  write_images(tmp_path / "mine")
  return tmp_path / "mine"


def _make(folder, **options):
  return data.make("image_folder", root=str(folder), **SIZED | options)


def _names(made, split):
  return {made._found.names[index] for index in made._found.splits[split]}


def _evaluated(made):
  return [digest(batch) for batch in made.evaluation_batches(5)]


def test_kept_in_the_cache_or_read_as_drawn_is_the_same(folder):
  kept, drawn = _make(folder), _make(folder, prepare_up_to_mb=0)
  assert kept._stored is not None
  assert drawn._stored is None
  assert _evaluated(kept) == _evaluated(drawn)
  for step in range(4):
    assert digest(kept.train_batch(3, step, 6)) == digest(
      drawn.train_batch(3, step, 6)
    )
  images, _ = kept._read(np.arange(3), None)
  path = folder / kept._found.names[1]
  np.testing.assert_array_equal(images[1], kept._form.read(path))


@pytest.mark.parametrize(
  ("crop", "channels"), [("resized", 3), ("resized", 1), ("padded", 3)]
)
def test_read_ahead_changes_no_batch(folder, crop, channels):
  options = {"augment": True, "crop": crop, "channels": channels}
  ahead = _make(folder, **options)
  alone = _make(folder, **options, read_ahead=0)
  plain = _make(folder, channels=channels)
  # In order, then back: what was made ahead is not what is asked for.
  for step in (0, 1, 2, 3, 4, 2, 3, 4, 0):
    for seed in (1, 2):
      got = ahead.train_batch(seed, step, 6)
      assert digest(got) == digest(alone.train_batch(seed, step, 6)), step
      before = plain.train_batch(seed, step, 6)
      np.testing.assert_array_equal(got["targets"], before["targets"])
      assert digest(got) != digest(before)
  assert _evaluated(ahead) == _evaluated(plain)


def test_files_that_are_added_move_no_other(folder):
  before = _make(folder, test_fraction=0.2)
  write_images(folder, ("ant", "cat"), 20)
  after = _make(folder, test_fraction=0.2)
  assert after.classes == ["ant", "cat", "dog"]
  for split in ("train", "validation", "test"):
    assert _names(before, split) <= _names(after, split)
  assert before.provenance["fingerprint"] != after.provenance["fingerprint"]


def test_a_copy_has_the_same_fingerprint_and_a_changed_byte_another(
  folder, tmp_path
):
  shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
  here, there = _make(folder), _make(tmp_path / "copy")
  assert here.provenance["fingerprint"] == there.provenance["fingerprint"]
  file = tmp_path / "copy/cat/00.png"
  shutil.copyfile(tmp_path / "copy/dog/00.png", file)
  changed = _make(tmp_path / "copy")
  assert changed.provenance["fingerprint"] != here.provenance["fingerprint"]
  # What the cache keeps goes by the content, not by the name.
  assert (changed._stored[0] != here._stored[0]).any()
  np.testing.assert_array_equal(changed._stored[1], here._stored[1])


def test_folders_of_splits_are_the_splits(tmp_path):
  for part, count in (("train", 9), ("val", 4), ("test", 3)):
    write_images(tmp_path / part, count=count)
  tuned = _make(tmp_path, tuning_fraction=0.3)
  made = _make(tmp_path, tuning_fraction=0.0)
  sizes = {"train": 18, "tuning": 0, "validation": 8, "test": 6}
  assert made.provenance["sizes"] == sizes
  assert tuned.provenance["sizes"] == sizes | {"train": 16, "tuning": 2}
  assert _names(tuned, "tuning") | _names(tuned, "train") == _names(
    made, "train"
  )
  for split, part in (("train", "train"), ("validation", "val")):
    assert {name.partition("/")[0] for name in _names(made, split)} == {part}
  held_out = sum(b["weight"].sum() for b in made.evaluation_batches(3))
  test = sum(
    b["weight"].sum() for b in made.on_split("test").evaluation_batches(4)
  )
  assert (held_out, test) == (8, 6)
  # Without val/, the hash takes it from train/, and test/ stays what it is.
  shutil.rmtree(tmp_path / "val")
  drawn = _make(tmp_path)
  assert _names(drawn, "validation") < _names(made, "train")
  assert _names(drawn, "test") == _names(made, "test")


def test_what_images_are_made_of_files(tmp_path):
  from PIL import Image

  draw = np.random.default_rng(0)
  pixels = draw.integers(256, size=(8, 8, 3)).astype(np.uint8)
  image = Image.fromarray(pixels)
  form = image_files.Form(8, 3, 1.0)
  image.save(tmp_path / "same.png")
  np.testing.assert_array_equal(form.read(tmp_path / "same.png"), pixels)
  # Upright: 6 is a quarter turn, as phones write it.
  exif = Image.Exif()
  exif[0x0112] = 6
  image.save(tmp_path / "turned.png", exif=exif)
  np.testing.assert_array_equal(
    form.read(tmp_path / "turned.png"), np.rot90(pixels, -1)
  )
  # Transparency is dropped, the pixels below it stay.
  image.putalpha(7)
  image.save(tmp_path / "clear.png")
  np.testing.assert_array_equal(form.read(tmp_path / "clear.png"), pixels)
  deep = (pixels[..., 0].astype(np.uint16) << 8) + 3
  Image.fromarray(deep).save(tmp_path / "deep.png")
  np.testing.assert_array_equal(
    image_files.Form(8, 1, 1.0).read(tmp_path / "deep.png"), pixels[..., :1]
  )
  # The center of a long image: nothing is squeezed.
  long = np.concatenate([pixels * 0, pixels, pixels * 0], axis=1)
  Image.fromarray(long).save(tmp_path / "long.png")
  np.testing.assert_array_equal(form.read(tmp_path / "long.png"), pixels)
  assert image_files.Form(6, 3, 0.75).read(tmp_path / "same.png").shape == (
    6, 6, 3,
  )  # fmt: skip
  Image.fromarray(np.zeros((8, 8), np.int32)).save(tmp_path / "wide.tif")
  with pytest.raises(image_files.Unreadable, match="32 bits"):
    form.read(tmp_path / "wide.tif")


def _truncate(file):
  file.write_bytes((file.parent / "00.png").read_bytes()[:300])


BAD = {
  "empty": lambda root: (root / "cat/zz.png").write_bytes(b""),
  "no image": lambda root: (root / "cat/zz.png").write_text("hello"),
  "truncated": lambda root: _truncate(root / "cat/zz.png"),
  "a link to nothing": lambda root: (root / "cat/zz.png").symlink_to("none"),
  "a link to a folder above it": lambda root: (root / "cat/zz").symlink_to(
    root, target_is_directory=True
  ),
  "a class without an image": lambda root: (root / "zz").mkdir(),
  "a class with 1 whole image of 2": lambda root: write_images(
    root, ("zz",), 1
  ),
}


@pytest.mark.parametrize("why", BAD)
def test_bad_files_are_named_and_refused_or_left_out(folder, why):
  good = _make(folder)
  BAD[why](folder)
  with pytest.raises(errors.DataError) as refused:
    _make(folder)
  message = str(refused.value)
  assert "on_bad_file='refuse': of " in message
  assert "1 cannot be used: " in message
  assert "zz" in message
  assert why in message
  left = _make(folder, on_bad_file="skip")
  assert left.classes == good.classes
  assert _evaluated(left) == _evaluated(good)
  assert left.provenance["skipped"]["count"] == 1
  assert "1 cannot be used" in left.notes[0]


def test_what_turns_out_bad_while_it_is_read_weighs_nothing(folder):
  (folder / "cat/00.jpg").write_bytes(b"")  # The header is looked at.
  _truncate(folder / "dog/zz.png")  # What follows it is not.
  options = {"prepare_up_to_mb": 0, "validation_fraction": 0.2}
  with pytest.raises(errors.DataError, match="1 cannot be used: cat/00.jpg"):
    _make(folder, **options)
  (folder / "cat/00.jpg").unlink()
  refusing = _make(folder, **options)
  with pytest.raises(errors.DataError, match="zz.png cannot be used: .*trunc"):
    refusing.train_batch(0, 0, refusing.num_train_examples)
  made = _make(folder, on_bad_file="skip", **options)
  assert made.notes == []
  weights = [made.train_batch(0, step, 8)["weight"] for step in range(6)]
  epoch = made.num_train_examples
  assert sum(w.size - w.sum() for w in weights[: epoch // 8]) <= 1
  assert 0 < sum(w.size - w.sum() for w in weights) <= 3
  (note,) = made.notes
  assert "dog/zz.png" in note
  # The same in every process: it is a property of the files.
  again = _make(folder, on_bad_file="skip", **options)
  np.testing.assert_array_equal(
    again.train_batch(0, 3, 8)["weight"], weights[3]
  )


def test_one_class_is_none(tmp_path):
  """Every loss would be 0."""
  write_images(tmp_path, ("cat",), 3)
  with pytest.raises(errors.DataError, match="one class, 'cat'; needed: two"):
    _make(tmp_path)


def test_images_of_two_classes_without_folders_are_no_classes(tmp_path):
  write_images(tmp_path, ("train", "test"), 3)
  with pytest.raises(errors.DataError, match="but no folder per class"):
    _make(tmp_path)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"root": None}, "root: needed: the path .*--config.data.root=PATH"),
    ({"root": "mine/cot"}, r"no .*mine/cot. In .*/mine there is cat, dog\."),
    ({"root": "mine/cat/00.png"}, "is a file; needed: a folder"),
    ({"root": "mine/cat"}, "has no images; needed: a folder per class"),
    ({"image_size": 0}, "image_size=0; allowed: an int >= 1"),
    ({"channels": 4}, "channels=4; allowed: 1, 3"),
    ({"crop_fraction": 0.0}, "crop_fraction=0.0; allowed"),
    ({"crop": "centre"}, "crop='centre'; allowed: 'resized', 'padded'"),
    ({"scaling": "none"}, "scaling='none'; allowed"),
    ({"mean": (0.5,)}, "mean=.0.5,.; allowed: 3 numbers"),
    ({"deviation": (0.5, 0.0, 1.0)}, "deviation=0.0; allowed"),
    ({"on_bad_file": "skipp"}, "allowed: 'refuse', 'skip'. Did you mean 'skip"),
    ({"validation_fraction": 0.0}, "no image for the validation split"),
    ({"mirror": 1}, "mirror=1; allowed: True, False"),
  ],
)
def test_what_cannot_be_is_named(folder, monkeypatch, options, message):
  monkeypatch.chdir(folder.parent)
  with pytest.raises(errors.UserError, match=message):
    data.make("image_folder", **{"root": "mine", **SIZED, **options})


def test_a_folder_that_cannot_be_read_is_named(folder, monkeypatch):
  scandir = os.scandir

  def refuse(path):
    if str(path).endswith("dog/secret"):
      raise PermissionError(13, "Permission denied")
    return scandir(path)

  (folder / "dog/secret").mkdir()
  monkeypatch.setattr(os, "scandir", refuse)
  with pytest.raises(errors.DataError, match="dog/secret .Permission denied"):
    _make(folder)
