"""Tables at proxy scale: what their statements rest on."""

import pytest

from normjax import configure, papers


def test_computed_counts_are_those_of_the_paper():
  module = configure.load_module("configs/papers/normalized_lr_gd.py")
  table = module.table("proxy")
  stated = {next(iter(e.terms)): [e.at_least] for e in table.expected}
  assert module.measure("proxy") == stated
  assert [int(count) for (count,) in stated.values()] == [2, 2, 16, 157, 308]
  assert {cell.ref for cell in table.cells} == set(stated)
  assert all(cell.part == papers.MEASURE for cell in table.cells)


@pytest.mark.parametrize("optimizer", ["AdamW", "momentum"])
def test_optimizers_of_8_and_32_bits_differ_in_bits_alone(optimizer):
  """Their defaults of weight decay are not the same."""
  path = "configs/papers/state_bits.py"
  methods = configure.load_module(path).METHODS
  wide, narrow = (
    dict(
      configure.override(
        configure.load(path), methods[f"{optimizer}, {b}"]
      ).optimizer
    )
    for b in ("32 bits", "8 bits")
  )
  of_bits = {"name", "block_size", "block_layout", "min_size"}
  not_there = {"nesterov", "decoupled", "mask"}
  shared = set(wide) & set(narrow) - of_bits
  assert {"learning_rate", "weight_decay"} <= shared
  assert {key: wide[key] for key in shared} == {
    key: narrow[key] for key in shared
  }
  assert set(wide) ^ set(narrow) <= of_bits | not_there
  assert not any(wide.get(key) for key in not_there)
