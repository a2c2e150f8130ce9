"""Domains that a user's own arrays and images say."""

import numpy as np
import pytest

from normjax import data, errors
from tests.data.conftest import write_images

DRAW = np.random.default_rng(0)
FEATURES = DRAW.normal(size=(60, 4)).astype(np.float32)
LABELS = np.arange(60) % 3
IDS = DRAW.integers(4, size=60)
SHARES = {"validation_fraction": 0.3, "scaling": "none"}


def _arrays(folder, options=None, **more):
  file = folder / "mine.npz"
  np.savez(file, x=FEATURES, y=LABELS, d=IDS, **more)
  return data.make(
    "arrays", path=str(file), **SHARES | {"domains": "d"} | (options or {})
  )


@pytest.mark.parametrize("split", ["validation", "tuning"])
def test_arrays_say_the_domain_of_each_row(tmp_path, split):
  made = _arrays(tmp_path).on_split(split)
  of_row = {row.tobytes(): own for row, own in zip(FEATURES, IDS, strict=True)}
  batches = [made.train_batch(0, 0, 16), *made.evaluation_batches(16)]
  assert made.num_domains == 4
  for batch in batches:
    expected = [of_row[row.tobytes()] for row in batch["inputs"]]
    np.testing.assert_array_equal(batch["domain"], expected)
  assert len(batches) > 1
  plain = _arrays(tmp_path, {"domains": ""})
  assert plain.num_domains == 0
  assert "domain" not in plain.train_batch(0, 0, 4)


def test_splits_of_their_own_have_their_domains(tmp_path):
  given = {
    "validation_inputs": "vx",
    "validation_targets": "vy",
    "validation_domains": "vd",
  }
  more = {"vx": FEATURES[:6], "vy": LABELS[:6], "vd": np.arange(6) % 2 + 4}
  made = _arrays(tmp_path, given, **more)
  (batch,) = made.evaluation_batches(6)
  assert made.num_domains == 6
  assert sorted(batch["domain"]) == [4, 4, 4, 5, 5, 5]
  with pytest.raises(errors.UserError, match="validation_domains='', and the"):
    _arrays(tmp_path, {**given, "validation_domains": ""}, **more)
  with pytest.raises(errors.UserError, match="'vd', and the validation split"):
    _arrays(tmp_path, {"validation_domains": "vd"}, **more)


@pytest.mark.parametrize(
  ("name", "ids", "said"),
  [
    ("e", IDS - 1, "e' of .* is int64 .*, the least -1; needed: integers"),
    ("e", IDS[:50], r"shape \(50,\).*; needed: .*\(60,\)"),
    ("e", IDS / 2, "is float64 of shape"),
    ("f", IDS, "'f'"),
  ],
)
def test_bad_ids_are_named(tmp_path, name, ids, said):
  with pytest.raises(errors.UserError, match=said) as error:
    _arrays(tmp_path, {"domains": name}, e=ids)
  assert "\n" not in str(error.value)


@pytest.fixture
def folder(tmp_path):
  write_images(tmp_path / "mine")
  return tmp_path / "mine"


def _images(folder, lines=None):
  if lines is not None:
    (folder / "domains.csv").write_text("\n".join(lines))
  return data.make(
    "image_folder",
    root=str(folder),
    image_size=8,
    validation_fraction=0.4,
    domains="" if lines is None else "domains.csv",
  )


def test_a_file_says_the_domain_of_each_image(folder):
  plain = _images(folder)
  names = plain._found.names
  said = {name: f"site {n % 3}" for n, name in enumerate(names)}
  made = _images(
    folder, ["path,domain", *(f"{k},{v}" for k, v in said.items())]
  )
  assert (made.num_domains, plain.num_domains) == (3, 0)
  assert made.provenance["domains"] == ["site 0", "site 1", "site 2"]
  assert made.provenance["fingerprint"] != plain.provenance["fingerprint"]
  batch, before = made.train_batch(0, 0, 5), plain.train_batch(0, 0, 5)
  np.testing.assert_array_equal(batch["inputs"], before["inputs"])
  place = {img.tobytes(): n for n, img in enumerate(made._stored)}
  assert len(place) == len(names)
  members = made._found.splits["validation"]
  (evaluated,) = made.evaluation_batches(len(members))
  counts = np.bincount(evaluated["domain"], minlength=3)
  np.testing.assert_array_equal(counts, np.bincount(members % 3, minlength=3))


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda lines: lines[1:], "says no domain of"),
    (lambda lines: [*lines, "a,b,c"], "line .* is 'a,b,c'; needed: path,dom"),
    (lambda lines: [*lines, f"{lines[0]}x"], "and above of 'one'"),
  ],
)
def test_bad_lines_are_named(folder, change, said):
  lines = [f"{name},one" for name in _images(folder)._found.names]
  with pytest.raises(errors.UserError, match=said) as error:
    _images(folder, change(lines))
  assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(folder):
  with pytest.raises(errors.UserError, match="domains='d.csv': there is no"):
    data.make("image_folder", root=str(folder), domains="d.csv")
