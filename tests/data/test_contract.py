"""What every data set keeps."""

import hashlib
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from normjax import configure, data, errors
from normjax.data import cuts

# Of the stand-ins, a hundredth would be nothing.
TENTHS = cuts.TENTHS._replace(test="")
TENTHS = {f"{split}_split": text for split, text in TENTHS._asdict().items()}
NAMED = {
  "mnist": {},
  "fashion_mnist": {"augment": True},
  "cifar10": {"augment": True},
  "cifar100": {},
  "cifar10_corrupted": {"corruption": "fog_3"},
  "imagenet2012": {"augment": True, **TENTHS},
  "c4": {"sequence_length": 24, **TENTHS},
  "wiki40b": {"sequence_length": 24, **TENTHS},
  "lm1b": {"sequence_length": 200, **TENTHS},
}
# Options of the sets that read a user's files, which `own_files` has made.
OWN = {
  "image_folder": {
    "root": "images", "image_size": 12, "augment": True,
    "validation_fraction": 0.4, "on_bad_file": "skip",
  },
  "arrays": {"path": "arrays.npz", "validation_fraction": 0.4},
  "text_files": {"files": "text", "sequence_length": 24},
}  # fmt: skip
LOCAL = [name for name in data.names() if name not in {*NAMED, *OWN}]
RANKS = {"tokens": 2, "images": 4, "features": 2}


def digest(batch) -> str:
  """Of the keys, shapes and bytes of a batch."""
  total = hashlib.sha256()
  for key in sorted(batch):
    total.update(f"{key}{batch[key].shape}{batch[key].dtype}".encode())
    total.update(np.ascontiguousarray(batch[key]).tobytes())
  return total.hexdigest()


def given(name, request):
  """Options of a set: its files are in the folder of stand-ins, or made."""
  if name in OWN:
    (option, below), *others = OWN[name].items()
    folder = request.getfixturevalue("own_files")
    return {option: str(folder / below), **dict(others)}
  if name in NAMED:
    folder = request.getfixturevalue("named_dir")
    return {"data_dir": folder, **NAMED[name]}
  return {}


def make(name, request):
  """The set, with those options."""
  return data.make(name, **given(name, request))


@pytest.fixture(params=data.names())
def dataset(request):
  """Every set of the table."""
  return make(request.param, request)


def test_batches_have_the_promised_shapes_and_types(dataset):
  batches = [
    dataset.train_batch(0, 0, 5),
    next(dataset.evaluation_batches(5)),
  ]
  for batch in batches:
    assert set(batch) == {"inputs", "targets", "weight"}
    inputs, targets, weight = (
      batch[key] for key in ("inputs", "targets", "weight")
    )
    assert inputs.ndim == RANKS[dataset.reads]
    assert len(inputs) == 5
    is_values = dataset.targets == "values"
    assert targets.shape[: weight.ndim] == weight.shape
    assert targets.ndim == weight.ndim + is_values
    assert targets.dtype == (np.float32 if is_values else np.int32)
    assert weight.dtype == np.float32
    options = dict(dataset.model_options)
    if dataset.reads == "tokens":
      assert inputs.dtype == np.int32
      assert targets.shape == inputs.shape
      assert max(inputs.max(), targets.max()) < options.pop("vocab_size")
    else:
      assert inputs.dtype == np.float32
      assert inputs.shape[1:] == tuple(options.pop("input_shape"))
      size = options.pop("num_classes")
      assert targets.shape == ((5, size) if is_values else (5,))
      assert is_values or 0 <= targets.min() <= targets.max() < size
    assert not options
  assert (batches[0]["weight"] == 1).all()


def test_a_part_of_a_batch_is_that_part(dataset):
  if not hasattr(dataset, "train_rows"):
    return  # Every process makes the whole batch.
  whole = dataset.train_batch(7, 3, 5)
  part = dataset.train_rows(7, 3, 5, slice(2, 4))
  assert digest(part) == digest({k: v[2:4] for k, v in whole.items()})


def test_a_batch_depends_on_seed_and_step_alone(dataset, request):
  steps = [0, 3, 17, 40]
  first = [digest(dataset.train_batch(7, step, 4)) for step in steps]
  # Backwards, from another object, with other batches in between.
  other = make(dataset.name, request)
  again = []
  for step in reversed(steps):
    other.train_batch(8, step, 4)
    again.append(digest(other.train_batch(7, step, 4)))
  assert again[::-1] == first
  assert len(set(first)) == len(steps)
  assert digest(dataset.train_batch(8, 3, 4)) != first[1]


def _examples(batches):
  """The digests of all inputs with a positive weight, and their weights."""
  seen, total = [], 0.0
  for batch in batches:
    total += float(batch["weight"].sum())
    assert set(np.unique(batch["weight"])) <= {0.0, 1.0}
    for inputs, targets, weight in zip(
      batch["inputs"], batch["targets"], batch["weight"], strict=True
    ):
      if weight.any():
        seen.append(digest({"i": inputs, "t": targets, "w": weight}))
  return seen, total


def test_evaluation_shows_every_example_once_whatever_the_batch(dataset):
  large, total = _examples(dataset.evaluation_batches(64))
  odd, odd_total = _examples(dataset.evaluation_batches(19))
  assert total == odd_total
  assert sorted(large) == sorted(odd)
  again, _ = _examples(dataset.evaluation_batches(64))
  assert again == large
  prefix = list(dataset.evaluation_batches(3, 2))
  assert [digest(batch) for batch in prefix] == [
    digest(batch)
    for batch, _ in zip(dataset.evaluation_batches(3), range(2), strict=False)
  ]


def test_images_can_be_corrupted_in_evaluation_alone(dataset):
  if dataset.reads != "images":
    if hasattr(dataset, "corrupted"):
      with pytest.raises(errors.UserError, match="only images"):
        dataset.corrupted("fog_1")
    return
  corrupted = dataset.corrupted("gaussian_noise_2")
  clean = list(dataset.evaluation_batches(16, 2))
  noisy = list(corrupted.evaluation_batches(16, 2))
  for before, after in zip(clean, noisy, strict=True):
    np.testing.assert_array_equal(before["targets"], after["targets"])
    np.testing.assert_array_equal(before["weight"], after["weight"])
    assert after["inputs"].dtype == np.float32
    # The deviation 0.06 in units of the pixels', less what is clipped.
    spread = (after["inputs"] - before["inputs"]).std()
    assert 0.05 < spread < 0.5
  assert digest(corrupted.train_batch(0, 3, 4)) == digest(
    dataset.train_batch(0, 3, 4)
  )
  # An image is corrupted by its index, whatever the batch.
  large, _ = _examples(corrupted.evaluation_batches(64))
  odd, _ = _examples(corrupted.evaluation_batches(19))
  assert sorted(large) == sorted(odd)


def test_another_split_is_evaluated_when_asked_for(dataset):
  if not hasattr(dataset, "on_split"):
    return
  with pytest.raises(errors.UserError, match="no split 'tset'; allowed: 'tr"):
    dataset.on_split("tset")
  train = dataset.on_split("train")
  seen, total = _examples(train.evaluation_batches(32))
  # What is drawn anew has splits of one size.
  assert total >= _examples(dataset.evaluation_batches(32))[1]
  parts = [seen]
  for split in ("tuning", "validation"):
    other = dataset.on_split(split)
    parts.append(_examples(other.evaluation_batches(32))[0])
    # What is trained on stays.
    assert digest(other.train_batch(1, 2, 4)) == digest(
      dataset.train_batch(1, 2, 4)
    )
  assert parts[2] == _examples(dataset.evaluation_batches(32))[0]
  # Two of the flowers are alike; so are short windows of repetitive stand-ins.
  if dataset.name not in ("iris", "c4", "wiki40b"):
    for one, another in itertools.combinations(parts, 2):
      assert not {*one} & {*another}


def test_every_set_keeps_a_part_to_tune_on_and_says_so(dataset):
  block = configure.to_dict(configure.component("data", dataset.name))
  assert data.has_tuning_split(block)
  assert next(dataset.on_split("tuning").evaluation_batches(4))["weight"].any()
  off = {"tuning_split": None, "tuning_fraction": 0.0, "num_folds": 0}
  changed = block | {k: v for k, v in off.items() if k in block}
  assert data.has_tuning_split(changed) == (dataset.name == "synthetic")


def test_provenance_goes_into_a_json_file(dataset):
  assert json.loads(json.dumps(dict(dataset.provenance)))


def test_options_of_the_config_are_the_factorys(dataset, request):
  block = configure.to_dict(configure.component("data", dataset.name))
  assert block.pop("name") == dataset.name
  again = data.make(dataset.name, **block | given(dataset.name, request))
  assert again.model_options == dataset.model_options


def test_another_process_draws_the_same_batches():
  code = (
    "import json, sys\n"
    "from normjax import data\n"
    "from tests.data.test_contract import LOCAL, digest\n"
    "print(json.dumps([digest(data.make(n).train_batch(3, 11, 4))"
    " for n in LOCAL]))\n"
    "assert 'tensorflow' not in sys.modules\n"
    "assert 'tensorflow_datasets' not in sys.modules, 'a warm cache is fast'\n"
    "assert 'grain' not in sys.modules\n"
    "assert 'sklearn' not in sys.modules\n"
  )
  here = [digest(data.make(name).train_batch(3, 11, 4)) for name in LOCAL]
  there = subprocess.run(
    [sys.executable, "-c", code], check=True, capture_output=True, text=True
  )
  assert json.loads(there.stdout) == here


def test_the_table_is_light():
  code = (
    "import sys\nfrom normjax import data\ndata.names()\n"
    "heavy = {'jax', 'grain', 'tensorflow_datasets', 'sklearn', 'tokenizers'}\n"
    "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
