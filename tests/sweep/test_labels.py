"""Labels of methods."""

import ml_collections
import pytest

from normjax import configure, errors
from normjax.sweep import grid, labels, point, product, zip_

BASE = ml_collections.ConfigDict(
  {
    "seed": 0,
    "norm": {"name": "layer_norm", "eps": 1e-6},
    "optimizer": {"name": "adamw", "learning_rate": 0.1, "b1": 0.9},
    "model": {"name": "mlp", "eps": 1.0},
    "train": {"precision": "float32", "num_steps": 10},
  }
)


def resolve(method):
  config = BASE.copy_and_resolve_references()
  for key, value in method.items():
    config.update_from_flattened_dict({key: value})
  return configure.to_dict(config)


def label(methods):
  return labels.labels(methods, [resolve(method) for method in methods])


def test_names_are_bare_and_joined():
  methods = product(
    grid("norm.name", ["layer_norm", "rms_norm"]),
    grid("optimizer.name", ["adamw", "muon"]),
  )
  assert label(methods) == [
    "layer_norm + adamw",
    "layer_norm + muon",
    "rms_norm + adamw",
    "rms_norm + muon",
  ]


def test_what_does_not_differ_is_not_said():
  methods = product(
    grid("norm.name", ["layer_norm", "rms_norm"]),
    point({"train.num_steps": 5}),
  )
  assert label(methods) == ["layer_norm", "rms_norm"]


def test_a_method_without_the_name_says_the_config_s():
  assert label([{}, {"norm.name": "rms_norm"}]) == ["layer_norm", "rms_norm"]


def test_values_are_said_only_where_needed():
  rates = grid("optimizer.learning_rate", [0.1, 0.02])
  assert label(zip_(grid("optimizer.name", ["adamw", "muon"]), rates)) == [
    "adamw",
    "muon",
  ]
  assert label(product(grid("optimizer.name", ["adamw", "muon"]), rates)) == [
    "adamw + learning_rate=0.1",
    "adamw + learning_rate=0.02",
    "muon + learning_rate=0.1",
    "muon + learning_rate=0.02",
  ]


def test_an_option_of_one_method_tells_it_from_its_twin():
  methods = [
    {"norm.name": "dyt"},
    {"norm.name": "layer_norm"},
    {"norm.name": "layer_norm", "norm.eps": 1e-3},
  ]
  assert label(methods) == ["dyt", "layer_norm", "layer_norm + eps=0.001"]


def test_keys_grow_until_they_are_unambiguous():
  methods = product(
    grid("norm.eps", [1e-3, 1e-2]), grid("model.eps", [2.0, 3.0])
  )
  assert label(methods)[0] == "norm.eps=0.001 + model.eps=2"


def test_a_base_that_overrides_nothing_says_what_it_has():
  assert label([{}, {"optimizer.b1": 0.5}]) == ["b1=0.9", "b1=0.5"]


def test_values_keep_the_digits_that_tell_them_apart():
  methods = grid("optimizer.b1", [0.5, 0.50000001])
  assert label(methods) == ["b1=0.5", "b1=0.50000001"]


def test_one_method_is_called_by_its_names():
  assert label([{}]) == ["layer_norm + adamw"]


def test_the_same_config_twice_is_refused():
  with pytest.raises(errors.UserError, match="resolve to the same config"):
    label([{}, {"norm.name": "layer_norm"}])


def test_baseline_by_default_label_or_overrides():
  methods = grid("norm.name", ["layer_norm", "rms_norm", "dyt"])
  configs = [resolve(method) for method in methods]
  names = label(methods)
  assert labels.baseline(None, names, configs) == "layer_norm"
  assert labels.baseline("dyt", names, configs) == "dyt"
  wanted = {"norm.name": "rms_norm"}
  assert labels.baseline(wanted, names, configs) == "rms_norm"
  assert labels.baseline(None, names[:1], configs[:1]) is None


@pytest.mark.parametrize("wanted", ["adamw", {"optimizer.name": "adamw"}])
def test_a_baseline_that_is_no_one_method_is_refused(wanted):
  methods = grid("norm.name", ["layer_norm", "rms_norm"])
  configs = [resolve(method) for method in methods]
  with pytest.raises(errors.UserError, match="layer_norm, rms_norm"):
    labels.baseline(wanted, label(methods), configs)


def test_labels_do_not_change_configs():
  before = configure.to_dict(BASE)
  label(grid("norm.name", ["layer_norm", "rms_norm"]))
  assert configure.to_dict(BASE) == before
