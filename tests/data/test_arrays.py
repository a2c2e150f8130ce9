"""Arrays of one's own: what is read, split, scaled, refused and left out."""

import numpy as np
import pytest

from normjax import data, errors
from normjax.data import array_checks

DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(256, size=(80, 6, 5), dtype=np.uint8)
FEATURES = DRAW.normal(3, 2, size=(80, 4)).astype(np.float32)
LABELS = np.arange(80) % 3
VALUES = DRAW.normal(50, 9, size=(80, 2))
SHARES = {"validation_fraction": 0.3}


def _make(tmp_path, options=None, **arrays):
  np.savez(tmp_path / "mine.npz", **arrays)
  return data.make(
    "arrays", path=str(tmp_path / "mine.npz"), **SHARES | (options or {})
  )


def _all(made, split):
  """Inputs and targets of a split, in stored order."""
  size = made.provenance["sizes"][split]
  made = made.on_split(split).in_order(np.arange(size))
  (batch,) = made.evaluation_batches(size)
  return batch["inputs"], batch["targets"]


def test_images_are_standardized_as_a_whole(tmp_path):
  made = _make(tmp_path, x=PIXELS, y=LABELS[:, None])
  assert (made.reads, made.targets) == ("images", "classes")
  assert made.model_options == {"num_classes": 3, "input_shape": (6, 5, 1)}
  inputs, targets = _all(made, "train")
  # 56 images of 30 numbers, in float32.
  assert abs(inputs.mean()) < 1e-6
  assert abs(inputs.std() - 1) < 1e-5
  rows = made.train[0].index
  np.testing.assert_array_equal(targets, LABELS[rows])
  expected = PIXELS[rows, :, :, None].astype(np.float64)
  np.testing.assert_allclose(
    inputs, (expected - expected.mean()) / expected.std(), rtol=1e-5, atol=1e-6
  )
  unit = _make(tmp_path, {"scaling": "unit"}, x=PIXELS, y=LABELS)
  np.testing.assert_allclose(_all(unit, "train")[0], expected / 255, rtol=1e-6)


def test_values_and_features_are_standardized_by_column(tmp_path):
  made = _make(tmp_path, x=FEATURES, y=VALUES)
  assert (made.reads, made.targets) == ("features", "values")
  assert made.model_options == {"num_classes": 2, "input_shape": (4,)}
  for array in _all(made, "train"):
    assert array.dtype == np.float32
    np.testing.assert_allclose(array.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(array.std(0), 1, rtol=1e-5)
  said = made.provenance["targets"]
  rows = made.validation[0].index
  # The validation part is scaled by the training part's numbers.
  np.testing.assert_allclose(
    _all(made, "validation")[1] * said["deviation"] + said["mean"],
    VALUES[rows],
    rtol=1e-5,
  )
  stored = {"scaling": "none", "standardize_targets": False}
  plain = _make(tmp_path, stored, x=FEATURES, y=VALUES[:, 0])
  inputs, targets = _all(plain, "train")
  np.testing.assert_array_equal(inputs, FEATURES[plain.train[0].index])
  assert targets.shape[1:] == (1,)
  whole = {"targets_are": "values"}
  assert _make(tmp_path, whole, x=FEATURES, y=LABELS).targets == "values"


def test_npy_files_are_mapped_and_read_as_the_archive(tmp_path):
  archive = _make(tmp_path, x=PIXELS, y=LABELS)
  (tmp_path / "folder").mkdir()
  for name, array in {"x": PIXELS, "y": LABELS, "other": VALUES}.items():
    np.save(tmp_path / "folder" / f"{name}.npy", array)
  mapped = data.make("arrays", path=str(tmp_path / "folder"), **SHARES)
  base = mapped.train[0].array
  while base.base is not None and not isinstance(base, np.memmap):
    base = base.base
  assert isinstance(base, np.memmap)
  for step in range(3):
    a, b = (made.train_batch(1, step, 8) for made in (archive, mapped))
    np.testing.assert_array_equal(a["inputs"], b["inputs"])
  # A file beside them that is not read is none of the data.
  before = mapped.provenance["fingerprint"]
  np.save(tmp_path / "folder/other.npy", VALUES + 1)
  again = data.make("arrays", path=str(tmp_path / "folder"), **SHARES)
  assert again.provenance["fingerprint"] == before


def test_rows_that_are_added_move_no_other(tmp_path):
  few = _make(tmp_path, {"test_fraction": 0.2}, x=PIXELS[:50], y=LABELS[:50])
  more = _make(tmp_path, {"test_fraction": 0.2}, x=PIXELS, y=LABELS)
  for split in ("train", "validation", "test"):
    before, after = (getattr(made, split)[0].index for made in (few, more))
    np.testing.assert_array_equal(before, after[after < 50])


def test_splits_of_their_own(tmp_path):
  options = {
    "inputs": "x_train", "targets": "y_train",
    "validation_inputs": "x_val", "validation_targets": "y_val",
    "test_inputs": "x_test", "test_targets": "y_test",
  }  # fmt: skip
  made = _make(
    tmp_path, options, x_train=PIXELS[:40], y_train=LABELS[:40],
    x_val=PIXELS[40:55], y_val=LABELS[40:55],
    x_test=PIXELS[55:], y_test=LABELS[55:],
  )  # fmt: skip
  # The part to tune on is taken from what would be trained on.
  assert made.provenance["sizes"] == {
    "train": 37, "tuning": 3, "validation": 15, "test": 25,
  }  # fmt: skip
  labels = [_all(made, split)[1] for split in ("train", "tuning")]
  assert sorted(np.concatenate(labels)) == sorted(LABELS[:40])
  np.testing.assert_array_equal(_all(made, "test")[1], LABELS[55:])
  np.testing.assert_array_equal(_all(made, "validation")[1], LABELS[40:55])


def test_folds_are_drawn_by_the_seed(tmp_path):
  options = {"num_folds": 4, "test_fraction": 0.2}
  made = _make(tmp_path, options, x=FEATURES, y=VALUES)
  validated = [made.for_seed(s).validation[0].index for s in range(4)]
  test = {*made.test[0].index}
  rows = np.concatenate([*validated, [*test]])
  assert sorted(rows) == list(range(len(FEATURES)))
  for seed in range(4):
    fold = made.for_seed(seed + 1000)
    assert fold.fold["number"] == seed
    assert {*fold.test[0].index} == test
    np.testing.assert_array_equal(fold.validation[0].index, validated[seed])
    np.testing.assert_array_equal(
      fold.tuning[0].index, validated[(seed + 1) % 4]
    )
    assert sum(fold.fold["sizes"].values()) == len(FEATURES)
    # Scaled by what it trains on.
    size = len(fold.train[1])
    batch = fold.train_batch(seed, 0, size)
    np.testing.assert_allclose(batch["inputs"].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(batch["targets"].mean(0), 0, atol=1e-5)
  with pytest.raises(errors.UserError, match="num_folds=4; allowed: 0 with"):
    _make(
      tmp_path,
      {"num_folds": 4, "validation_inputs": "x", "validation_targets": "y"},
      x=FEATURES,
      y=VALUES,
    )


def test_training_images_are_shifted_when_asked(tmp_path):
  plain = _make(tmp_path, x=PIXELS, y=LABELS)
  made = _make(tmp_path, {"augment": True}, x=PIXELS, y=LABELS)
  before, after = (m.train_batch(0, 5, 16) for m in (plain, made))
  assert (before["inputs"] != after["inputs"]).any()
  np.testing.assert_array_equal(before["targets"], after["targets"])
  np.testing.assert_array_equal(
    _all(plain, "validation")[0], _all(made, "validation")[0]
  )


def _bad_features():
  features = FEATURES.copy()
  features[7, 2], features[60, 0] = np.nan, np.inf
  return features


def _bad_labels():
  labels = LABELS.copy()
  labels[11] = -1
  return labels


@pytest.mark.parametrize(
  ("arrays", "options", "count", "said"),
  [
    ({"x": _bad_features(), "y": LABELS}, {}, 2, "row 7 (inputs that are not"),
    (
      {"x": FEATURES, "y": np.where(VALUES > 70, np.nan, VALUES)},
      {},
      int((VALUES > 70).any(1).sum()),
      "targets that are not finite",
    ),
    (
      {"x": PIXELS, "y": _bad_labels()},
      {},
      1,
      "row 11 (label -1; allowed: 0 o",
    ),
    (
      {"x": PIXELS, "y": LABELS},
      {"num_classes": 2},
      26,
      "label 2; allowed: 0 t",
    ),
  ],
)
def test_bad_rows_are_named_and_refused_or_left_out(
  tmp_path, arrays, options, count, said
):
  with pytest.raises(errors.DataError) as refused:
    _make(tmp_path, options, **arrays)
  message = str(refused.value)
  assert f"of 80 rows of {tmp_path}/mine.npz, {count} cannot be" in message
  assert said in message
  left = _make(tmp_path, {"on_bad_file": "skip", **options}, **arrays)
  assert sum(left.provenance["sizes"].values()) == 80 - count
  assert left.provenance["skipped"]["count"] == count
  assert said in left.notes[0]
  for split in ("train", "validation"):
    assert all(np.isfinite(array).all() for array in _all(left, split))


@pytest.mark.parametrize(
  ("arrays", "options", "message"),
  [
    ({"x": PIXELS, "y": LABELS[:70]}, {}, "x' has 80 rows, targets='y' has 70"),
    ({"x": PIXELS}, {}, "targets='y': .* has no such array; it has x"),
    ({"x": PIXELS, "y": np.array([{}] * 80)}, {}, "y': .*holds Python ob"),
    ({"x": PIXELS, "y": np.array(["a"] * 80)}, {}, "<U1 .*needed: numbers"),
    (
      {"x": PIXELS, "y": np.eye(3, dtype=int)[LABELS]},
      {},
      "classes are integers of shape .n,.. Of one-hot rows take argmax",
    ),
    (
      {"x": PIXELS, "y": VALUES},
      {"targets_are": "classes"},
      "set data.targets_are='values'",
    ),
    ({"x": np.zeros((80, 3, 9, 9)), "y": LABELS}, {}, "channels last: np.move"),
    ({"x": PIXELS, "y": np.eye(3)[LABELS]}, {}, "Of one-hot rows take argmax"),
    ({"x": PIXELS, "y": 0 * LABELS}, {}, "label 0 in 80 rows; needed: labels"),
    ({"x": PIXELS, "y": LABELS + 10**12}, {}, "np.unique.*data.num_classes"),
    ({"x": FEATURES[:, :0], "y": LABELS}, {}, "no numbers; needed: .n, d."),
    (
      {"x": FEATURES.astype(np.longdouble), "y": LABELS},
      {},
      "float128.*needed: numbers of at most 64 bits",
    ),
    ({"x": np.zeros(80), "y": LABELS}, {}, "features have shape .n, d."),
    ({"x": PIXELS, "y": np.zeros((80, 2, 2))}, {}, "values have shape"),
    ({"x": FEATURES, "y": LABELS}, {"scaling": "unit"}, "scaling='unit'; al"),
    ({"x": FEATURES, "y": LABELS}, {"augment": True}, "augment=True; allowed"),
    (
      {"x": PIXELS, "y": LABELS, "v": PIXELS[:, :4], "w": LABELS},
      {"validation_inputs": "v", "validation_targets": "w"},
      r"validation_inputs='v' has rows of shape .4, 5, 1., inputs='x' of .6",
    ),
    (
      {"x": PIXELS, "y": LABELS},
      {"validation_inputs": "x"},
      "validation_targets='': .* has no such array; it has x, y",
    ),
    (
      {"x": PIXELS, "y": LABELS, "w": VALUES[:, 0]},
      {"validation_inputs": "x", "validation_targets": "w"},
      "reads as values, targets='y' as classes",
    ),
    ({"x": PIXELS[:1], "y": LABELS[:1]}, {}, "none is in the validation split"),
  ],
)  # fmt: skip
def test_what_cannot_be_is_named(tmp_path, arrays, options, message):
  with pytest.raises(errors.UserError, match=message):
    _make(tmp_path, options, **arrays)


def test_what_float32_cannot_hold_is_bad(tmp_path):
  """In a batch it would be infinite, and so would be each mean."""
  features = FEATURES.astype(np.float64)
  features[3, 0] = 1e300
  with pytest.raises(errors.DataError, match="row 3 .*not finite in float32"):
    _make(tmp_path, {}, x=features, y=LABELS)
  # The largest float16 is far from float32's.
  _make(tmp_path, {}, x=np.full_like(PIXELS, 6e4, np.float16), y=LABELS)


def test_one_hot_values_can_be_asked_for(tmp_path):
  made = _make(
    tmp_path, {"targets_are": "values"}, x=PIXELS, y=np.eye(3)[LABELS]
  )
  assert made.num_classes == 3
  assert made.targets == "values"


def test_a_table_is_no_archive(tmp_path):
  """NumPy's own message advises to unpickle what it does not know."""
  (tmp_path / "mine.csv").write_text("1,2\n")
  with pytest.raises(errors.DataError, match="it is no file of NumPy's"):
    data.make("arrays", path=str(tmp_path / "mine.csv"))


def test_damaged_files_are_named(tmp_path):
  with pytest.raises(errors.DataError, match="path='nope.npz': there is no"):
    data.make("arrays", path="nope.npz")
  _make(tmp_path, x=PIXELS, y=LABELS)
  whole = (tmp_path / "mine.npz").read_bytes()
  (tmp_path / "mine.npz").write_bytes(whole[:700])
  with pytest.raises(
    errors.DataError, match=r"mine.npz' cannot be read as .npz"
  ):
    data.make("arrays", path=str(tmp_path / "mine.npz"))
  np.save(tmp_path / "x.npy", PIXELS)
  with pytest.raises(errors.DataError, match="is one array; needed: an .npz"):
    data.make("arrays", path=str(tmp_path / "x.npy"))
  np.save(tmp_path / "y.npy", LABELS)
  (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:500])
  with pytest.raises(errors.DataError, match="inputs='x': .* cannot be read"):
    data.make("arrays", path=str(tmp_path))


def test_moments_in_pieces(monkeypatch):
  monkeypatch.setattr(array_checks, "_CHUNK_BYTES", 64)
  for per_column, axis in ((True, 0), (False, None)):
    mean, deviation = array_checks.moments(FEATURES, per_column)
    wide = FEATURES.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axis), rtol=1e-13)
    np.testing.assert_allclose(deviation, wide.std(axis), rtol=1e-13)
  pair = array_checks.Pair.of((_bad_features(), LABELS), ("x", "y"), "")
  assert [row for row, _ in array_checks.bad_rows(pair, 0)] == [7, 60]
