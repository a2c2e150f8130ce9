"""Matrices held as factors train on a mesh as on one device."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from kernels_pallas.aot import hlo
from normjax import build
from normjax.train import checkpoint, program
from tests import support

SLTRAIN = "sltrain(rank=4, density=0.1, alpha=4.0)"
BASE = {"train.batch_size": 8, "model.hidden_dim": 32, "model.num_layers": 1}
MESHES = {
  "data": {"train.num_devices": 2},
  "fsdp": {
    "train.num_devices": 2,
    "train.layout.fsdp": 2,
    "train.layout.min_size": 1,
  },
  "fsdp and tensor": {
    "train.num_devices": 4,
    "train.layout.fsdp": 2,
    "train.layout.tensor": 2,
    "train.layout.min_size": 1,
  },
}
ALONE = {"train.num_devices": 1}


def _config(mesh, linear=SLTRAIN):
  return support.tiny(BASE, mesh, {"model.linear": linear})


@functools.cache
def _alone():
  return _run(_config(ALONE))


def _run(config, num_steps=2):
  """The program, its first state, that after some steps, and the losses."""
  compiled, _ = program.get(config)
  made, dataset = compiled.layout, build.dataset(config)
  hyper = made.put_scalars(build.hyper(config))
  batches = [
    made.put_batch(dataset.train_batch(0, n, config.train.batch_size))
    for n in range(num_steps)
  ]
  first = compiled.initialize(hyper, batches[0])
  state, losses = compiled.snapshot(first), []
  for batch in batches:
    state, metrics = compiled.step(state, batch, hyper)
    losses.append(float(jax.block_until_ready(metrics)["loss"]))
  return compiled, jax.device_get(first), state, losses


def _leaves(tree, name):
  """By path, the leaves of that name."""
  return {
    path: leaf
    for path, leaf in (
      (jax.tree_util.keystr(keys, simple=True, separator="/"), leaf)
      for keys, leaf in jax.tree.leaves_with_path(tree)
    )
    if path.endswith(f"/{name}")
  }


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_a_mesh_gives_what_one_device_gives(mesh, tmp_path):
  config = _config(mesh)
  compiled, first, state, losses = _run(config)
  alone, first_alone, state_alone, losses_alone = _alone()
  supports = _leaves(first.stats, "support")
  assert len(supports) == 7
  assert len({s.tobytes() for s in supports.values()}) == 7
  # The same draw, to the bit: of the support and of all else.
  jax.tree.map(np.testing.assert_array_equal, first.stats, first_alone.stats)
  jax.tree.map(np.testing.assert_array_equal, first.params, first_alone.params)
  # A support stays what it is, whole and equal on every device.
  for path, leaf in _leaves(state.stats, "support").items():
    assert leaf.sharding.is_fully_replicated
    for shard in leaf.addressable_shards:
      np.testing.assert_array_equal(shard.data, supports[path])
  # Sums of the same float32 terms in another order, see test_step.REORDERED.
  np.testing.assert_allclose(losses, losses_alone, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    state.params,
    state_alone.params,
  )
  checkpoints = checkpoint.Checkpoints(tmp_path, keep=1)
  checkpoints.save(compiled.snapshot(state), {})
  checkpoints.close()
  restored, _, problems = checkpoint.Checkpoints(tmp_path, keep=1).restore(
    alone.abstract_state
  )
  assert problems == []
  jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(state))
  for leaf in jax.tree.leaves(restored):
    assert len(leaf.sharding.device_set) == 1


def _specs(linear, name):
  lowered = program.lower(_config(MESHES["fsdp and tensor"], linear))
  state = lowered.state
  found = {**_leaves(state.params, name), **_leaves(state.stats, name)}
  return {leaf.sharding.spec for leaf in found.values()}


def test_where_factors_lie():
  assert _specs(SLTRAIN, "lora_a") == {P("fsdp", None)}
  assert _specs(SLTRAIN, "lora_b") == {P("fsdp", "tensor")}
  assert _specs(SLTRAIN, "sparse_values") == {P()}
  assert _specs(SLTRAIN, "support") == {P()}


def test_a_matrix_that_is_not_trained_is_split_as_one_that_is():
  assert _specs("lora(rank=4)", "frozen_kernel") == {P("fsdp", "tensor")}


def _gathered(linear):
  """Bytes that a step's all-gathers give, and those of all collectives."""
  compiled, _ = program.get(_config(MESHES["fsdp"], linear))
  by_kind = {}
  for kernel in hlo.kernels(compiled.step.as_text()):
    kind = kernel.kind.removesuffix("-start")
    by_kind[kind] = by_kind.get(kind, 0) + kernel.bytes * kernel.times
  kinds = "all-gather", "all-reduce", "reduce-scatter", "all-to-all"
  return {kind: by_kind.get(kind, 0) for kind in kinds}


def test_no_dense_matrix_is_gathered_that_dense_training_does_not():
  dense, factors = _gathered("dense"), _gathered(SLTRAIN)
  assert dense["all-gather"]  # As FSDP has it.
  assert factors["all-gather"] <= dense["all-gather"]
