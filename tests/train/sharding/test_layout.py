"""One place says what is split over devices, and its rules reach every part."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from kernels_pallas import aot, dispatch, programs
from normjax import build, configure, errors, optim
from normjax.nn.roles import Kind
from normjax.train import preview, program, step
from normjax.train.sharding import layout
from tests import support

MLP = {
  **{k: v for k, v in support.RESNET.items() if not k.startswith("model.")},
  "model.name": "mlp",
  "norm.name": "rms_norm",
  "model.num_layers": 1,
  "model.hidden_dim": 16,
  "train.num_devices": 2,
}
# Who else knows of meshes: of those that a caller brings.
FOREIGN_MESHES = (
  "optim/blockwise.py",
  "optim/whole_matrices.py",
  "optim/eigenbasis.py",
  "optim/meshes.py",
  "similarity/matrices.py",  # Of embeddings that a caller has laid out.
)
WORDS = re.compile(r"\b(Mesh|NamedSharding|PartitionSpec|make_mesh|jax\.P)\b")


def test_only_the_layout_says_how_arrays_are_split():
  root = support.ROOT / "normjax"
  found = {
    str(path.relative_to(root))
    for path in root.rglob("*.py")
    if WORDS.search(path.read_text())
  }
  assert found - set(FOREIGN_MESHES) == {
    "train/sharding/device_parts.py",
    "train/sharding/layout.py",
    "train/sharding/layout_rules.py",
  }


def _config(**changes):
  return configure.override(
    configure.load("configs/default.py"), {**MLP, **changes}
  )


@pytest.fixture(scope="module")
def uncompiled():
  """The recipe, and the state in shapes."""
  recipe, initialize = program.recipe_and_initialize(_config())
  return recipe, jax.eval_shape(initialize, build.hyper(_config()))


def _split_outputs(path, role, shape):
  """A rule beyond data parallelism: all kernels but the last, by outputs."""
  is_split = role.kind is Kind.KERNEL and role.layer != "output"
  axes = (*[None] * (len(shape) - 1), "data")
  return PartitionSpec(*axes if is_split else ())


def _split_layout(roles):
  rules = layout.Rules(("data",), variable=_split_outputs)
  made = layout.data_parallel({"data": 2}, roles, jax.devices())
  return dataclasses.replace(made, rules=rules, init=optim.adamw(0.1).init)


def test_data_parallelism_splits_the_batch_alone(uncompiled):
  recipe, state = uncompiled
  made = layout.data_parallel({"data": 2}, recipe.roles, jax.devices())
  assert made.batch.shard_shape((8, 64)) == (4, 64)
  for leaf in jax.tree.leaves(made.abstract_state(state)):
    assert leaf.sharding.is_fully_replicated
  batch = made.put_batch({"inputs": np.zeros((8, 64))})
  assert batch["inputs"].sharding == made.batch


def test_a_rule_on_roles_reaches_parameters_and_their_moments(uncompiled):
  recipe, state = uncompiled
  placed = _split_layout(recipe.roles).abstract_state(state)
  split = {
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, leaf in jax.tree.leaves_with_path(placed)
    if leaf.sharding.spec == PartitionSpec(None, "data")
  }
  assert split == {
    f"{owner}/layers/0/kernel"
    for owner in ("params", "optimizer_state/0/mu", "optimizer_state/0/nu")
  }


def test_kernels_are_told_how_activations_are_cut(uncompiled):
  made = layout.data_parallel({"data": 2}, uncompiled[0].roles, jax.devices())
  seen, alone = [], []

  def note(x):
    seen.append((dispatch.target(x).devices, programs.cut(x, 1)))
    dispatch.on_each_device(lambda w: alone.append(dispatch.target(w)), x)
    return x

  batch = layout.abstract(np.zeros((8, 64), np.float32), made.batch)
  jax.eval_shape(made.traced(note), batch)
  split = _split_layout(uncompiled[0].roles)
  split.traced(lambda: dispatch.on_each_device(alone.append, "unknown"))()
  assert alone.pop() == "unknown"
  # A plan for machines with more devices than are here.
  shape = jax.ShapeDtypeStruct((32, 64), np.float32)
  for num_devices in (1, 16, 0):
    config = _config(**{"train.num_devices": num_devices})
    there = layout.create(config, uncompiled[0], here=False)
    jax.eval_shape(there.traced(note), shape)
  assert {target.devices for target in alone} == {1}
  devices, cuts = zip(*seen, strict=True)
  assert devices == (2, 1, 16, jax.device_count())
  for size, found in zip(devices, cuts, strict=True):
    assert found.mesh.size == size
    assert found.spec == PartitionSpec("data")
    assert found.local((32, 64)) == (32 // size, 64)


@pytest.mark.slow
def test_kernels_of_a_step_for_four_chips():
  """From a host of other devices; nothing of the activations is gathered."""
  if (reason := aot.missing("v6e")) is not None:
    pytest.skip(reason)
  config = support.tiny(
    {"model.model_dim": 128, "norm.impl": "pallas_tpu"},
  )
  recipe, initialize = program.recipe_and_initialize(config)
  mesh = Mesh(np.array(aot.described("v6e", 4)), ("data",))
  made = layout.Layout(mesh, recipe.roles)
  hyper = layout.abstract(build.hyper(config), made.everywhere)
  batch = dict(build.dataset(config).train_batch(0, 0, 8))
  state = made.abstract_state(jax.eval_shape(initialize, hyper, batch))
  with dispatch.recording() as kernels:
    compiled = aot.compile(
      made.traced(functools.partial(step.train_step, recipe)),
      state,
      layout.abstract(batch, made.batch),
      hyper,
      target="v6e",
      devices=4,
    )
  assert kernels == {"rms_norm": ["pallas_tpu"]}
  assert "tpu_custom_call" in compiled.text
  assert "all-gather" not in compiled.text


@pytest.mark.slow
def test_a_program_follows_its_layout(uncompiled, monkeypatch):
  """Other devices hold the numbers; the numbers are the same."""
  config = _config()
  dataset = build.dataset(config)
  states = []
  roles = uncompiled[0].roles
  for made in (
    layout.data_parallel({"data": 2}, roles, jax.devices()),
    _split_layout(roles),
  ):
    monkeypatch.setattr(program, "_PROGRAMS", {})
    monkeypatch.setattr(layout, "create", lambda *given, made=made: made)
    compiled, _ = program.get(config)
    hyper = made.put_scalars(build.hyper(config))
    batch = made.put_batch(dataset.train_batch(0, 0, 8))
    state, _ = compiled.step(compiled.initialize(hyper, batch), batch, hyper)
    states.append(compiled.snapshot(state))
  kernel = states[1].params["layers"]["0"]["kernel"]
  assert kernel.sharding.shard_shape(kernel.shape) == (64, 8)
  # Sums of the same float32 terms in another order.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    *jax.device_get(states),
  )


def test_a_batch_that_does_not_come_out_even_is_refused():
  with pytest.raises(
    errors.UserError, match="evaluate.batch_size=9 is not a multiple of the 2"
  ):
    program.get(_config(**{"evaluate.batch_size": 9}))


@pytest.mark.parametrize(
  "change",
  [
    {"train.layout.batch_statistics": "device"},
    pytest.param(
      {"train.layout.matrices": "distributed", "optimizer.name": "muon"},
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {"train.layout.fsdp": 2, "train.layout.min_size": 0},
      marks=pytest.mark.slow,
    ),
  ],
)
def test_a_step_with_probes_is_traced_without_the_devices(change):
  """What each device does by itself is traced in shapes, too."""
  config = support.tiny_mlp(
    {"train.num_devices": 4, "log.probes": ("activation/",)}, change
  )
  made = preview.preview(config)
  assert any(name.startswith("activation/") for name in made.values)
