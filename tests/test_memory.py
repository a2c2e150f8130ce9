"""Bytes of a run: against arrays that are there, and against counts by hand."""

import json

import jax
import pytest

from normjax import build, cli, configure, memory
from normjax.train import program

BLOCKS = {"optimizer.name": "badam", "train.block_gradients": True}
CASES = {
  "adamw": {},
  "muon": {"optimizer.name": "muon"},
  "soap": {"optimizer.name": "soap"},
  "bfloat16": {
    "optimizer.name": "adam_8bit",
    "train.param_dtype": "bfloat16",
    "train.param_rounding": "kahan",
  },
  "blocks": BLOCKS,
  "sltrain": {"model.linear": "sltrain(rank=4)", "optimizer.name": "galore"},
  "relora": {"model.linear": "relora(rank=4)", "train.norms_frozen": True},
  "average": {"train.ema_decay": 0.9, "norm.name": "batch_norm"},
  "zeroth_order": {"train.gradient": "zeroth_order"},
}


def _config(overrides=None):
  default = configure.load("configs/default.py:debug")
  return configure.override(default, overrides or {})


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES)
def test_every_byte_of_a_state_is_in_one_group(overrides):
  config = _config(overrides)
  found = memory.bytes_of(config)
  _, initialize = program.recipe_and_initialize(config)
  state = initialize(build.hyper(config))

  def held(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))

  total = found.total
  assert total.optimizer_state_bytes == held(state.optimizer_state)
  assert total.held_bytes == held(state._replace(optimizer_state=()))
  kinds = {"trained", "frozen", "indices", "other"}
  assert {group.part for group in found.groups} <= kinds
  parts = [found.part(kind) for kind in kinds]
  assert sum(part.held_bytes for part in parts) == total.held_bytes
  # Nothing is split: every device has it whole.
  in_state = total.held_bytes + total.optimizer_state_bytes
  assert found.per_device_bytes == in_state
  # Little is left that belongs to no parameter: counts and keys.
  (shared,) = [g for g in found.groups if g.what == memory.SHARED]
  assert shared.optimizer_state_bytes <= 64


def test_adam_by_hand():
  dim, hidden, layers, vocab = 64, 172, 2, 256
  config = _config({"model.hidden_dim": hidden})
  count = 2 * vocab * dim + dim
  count += layers * (4 * dim**2 + 3 * dim * hidden + 2 * dim)
  found = memory.bytes_of(config)
  trained = found.part("trained")
  assert trained.num_entries == count
  assert trained.held_bytes == trained.gradient_bytes == 4 * count
  assert trained.optimizer_state_bytes == 8 * count
  assert trained.paper_weight_bytes == 2 * count
  assert trained.paper_state_bytes == 4 * count


def test_sltrain_of_1b_by_the_papers_shapes():
  """24 blocks of 4 (2048, 2048) and 3 (2048, 5461), r = 512, delta = 0.03."""
  config = _config(
    {
      "model.size": "1b",
      "model.scan_layers": True,
      "model.linear": "sltrain(rank=512, density=0.03)",
    }
  )
  sides = [(2048, 2048)] * 4 + [(2048, 5461)] * 3
  entries = 24 * sum(int(0.03 * i * o) for i, o in sides)
  factors = 24 * sum(512 * (i + o) for i, o in sides)
  found = memory.bytes_of(config)
  indices = found.part("indices")
  assert indices.num_entries == entries
  assert indices.held_bytes == 4 * entries
  assert indices.paper_weight_bytes == 8 * entries
  assert not indices.gradient_bytes + indices.optimizer_state_bytes
  counts = {group.what: group.num_entries for group in found.groups}
  assert counts["matrix entries, adamw"] == entries
  assert counts["kernel, adamw"] == factors


def test_lora_matrices_are_held_and_have_no_gradient():
  found = memory.bytes_of(_config({"model.linear": "lora(rank=4)"}))
  dense = memory.bytes_of(_config())
  frozen = found.part("frozen")
  (kernels,) = [g for g in dense.groups if g.what == "kernel, adamw"]
  assert frozen.num_entries == kernels.num_entries
  assert frozen.held_bytes == kernels.held_bytes
  assert frozen.paper_weight_bytes == 2 * frozen.num_entries
  assert not frozen.gradient_bytes + frozen.optimizer_state_bytes


def test_gradients_of_blocks_are_those_of_one():
  found = memory.bytes_of(_config(BLOCKS))
  by_name = {group.what: group for group in found.groups}
  first = by_name["kernel, badam, block layers/0"]
  second = by_name["kernel, badam, block layers/1"]
  assert first.gradient_bytes == first.held_bytes == second.held_bytes
  assert not second.gradient_bytes
  assert any("stands at the first block" in each for each in found.remarks)


def test_zeroth_order_has_no_gradient():
  found = memory.bytes_of(_config(CASES["zeroth_order"]))
  assert not found.total.gradient_bytes
  assert any("train.gradient='zeroth_order'" in each for each in found.remarks)


def test_bfloat16_parameters_have_float32_gradients():
  trained = memory.bytes_of(_config(CASES["bfloat16"])).part("trained")
  assert trained.held_bytes == 2 * trained.num_entries
  assert trained.gradient_bytes == 4 * trained.num_entries


def test_7b_allocates_nothing():
  before = {id(array) for array in jax.live_arrays()}
  config = _config({"model.size": "7b", "model.scan_layers": True})
  found = memory.bytes_of(config)
  new = [array for array in jax.live_arrays() if id(array) not in before]
  assert sum(array.nbytes for array in new) < 2**20
  assert found.total.num_entries > 6.4e9


def test_a_split_state():
  config = _config(
    {"train.layout.fsdp": 4, "train.num_devices": 4, "train.layout.min_size": 0}
  )
  found = memory.bytes_of(config)
  total = found.total.held_bytes + found.total.optimizer_state_bytes
  assert found.num_devices == 4
  # All but norms, which are whole, comes out even.
  norms = sum(
    group.held_bytes + group.optimizer_state_bytes
    for group in found.groups
    if group.what.startswith("norm")
  )
  counts = 4 + 8  # adamw's, and the state's two.
  assert (
    found.per_device_bytes == (total - norms - counts) // 4 + norms + counts
  )


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_the_command(capsys, json_flag):
  path = "configs/default.py:debug"
  assert cli.main(["memory", path, *json_flag]) == 0
  out = capsys.readouterr().out
  found = memory.bytes_of(_config())
  if json_flag:
    said = json.loads(out)
    assert said["total"]["held_bytes"] == found.total.held_bytes
    assert len(said["groups"]) == len(found.groups)
    return
  assert f"{found.total.num_entries:,}" in out
  assert "not counted: activations" in out
  assert "papers' estimate" in out


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["configs/default.py", "--config.model.size=13b"], "model.size='13b'"),
    ([], "needs one config file, got 0"),
    (["configs/default.py", "--config.model.sise=1b"], "model.sise"),
  ],
)
def test_bad_input(capsys, arguments, said):
  assert cli.main(["memory", *arguments]) == 2
  assert said in capsys.readouterr().err
