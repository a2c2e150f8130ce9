"""Tables at proxy scale: what their statements rest on."""

import pytest

from normjax import configure, papers, similarity
from normjax.papers import targets
from normjax.similarity import heads


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


def test_normalizations_have_as_many_settings_to_choose_from():
  module = configure.load_module("configs/papers/dual_bank_hubness.py")
  settings = module.settings()
  assert tuple(settings) == module.METHODS
  counts = {method: len(choices) for method, choices in settings.items()}
  assert counts.pop(module.COSINE) == 1
  assert set(counts.values()) == {9}
  cells = {cell.ref for cell in module.table("proxy").cells}
  assert cells == {
    (method, column)
    for method in module.METHODS
    for column in (module.HUBNESS, module.RECALL)
  }


def test_heads_differ_in_what_their_rows_say_alone():
  """Two rows have as many dimensions and one temperature."""
  module = configure.load_module("configs/papers/ebv_classes.py")
  specs = {
    name: heads.resolve(method["model.head"])
    for name, method in module.METHODS.items()
  }
  fixed, trained = (
    specs[n].options for n in (module.FIXED_8, module.TRAINED_8)
  )
  for option in ("temperature", "embedding_dim"):
    assert fixed[option] == trained[option]
  assert specs[module.FIXED_26].options["temperature"] == fixed["temperature"]
  bound = similarity.welch_bound(26, fixed["embedding_dim"])
  assert bound < fixed["tau"] < 1.2 * bound


def _table(name):
  return configure.load_module(f"configs/papers/{name}.py").table("proxy")


def test_what_a_norm_may_lose_is_what_the_papers_lost():
  (loses,) = (
    e for e in _table("batch_size_table").expected if "1.3" in e.claim
  )
  printed = targets.read("switchable_norm_small_batch")
  large, small = (
    printed.number("README table", "SN", column).value
    for column in ("(8,32)", "(8,2)")
  )
  assert loses.at_least == pytest.approx((small - large) / 100)
  assert loses.at_most is None  # To gain is not to lose.


def test_a_claim_stands_beside_its_own_paper():
  table = _table("dyt_data_size")
  printed = targets.read(table.paper)
  assert printed.arxiv == "2604.23434"
  scarce, ample = (
    printed.number("abstract", "DyT", column).value
    for column in ("64M, 1M", "64M, 118M")
  )
  assert scarce < 0 < ample


def test_the_bound_of_8_bits_is_below_what_torchao_loses_with_4():
  printed = targets.read("adamw4bit_rounding").tables["Table 4, gap to 32-bit"]
  losses = {
    column: number.value
    for (method, column), number in printed.numbers.items()
    if method == "TorchAO 4-bit"
  }
  module = configure.load_module("configs/papers/state_bits.py")
  paper = configure.load_module("configs/papers/eightbit_c4.py")
  assert min(losses.values()) > module.BOUND_NATS
  assert losses["Llama 130M"] == paper.FOUR_BITS == min(losses.values())
