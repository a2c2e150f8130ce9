"""A model that is split over devices trains as one that is whole."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from kernels_pallas import aot
from kernels_pallas.aot import hlo
from normjax import build, configure, errors, models
from normjax.nn import model_roles, roles, stream_layout
from normjax.train import checkpoint, drawing, preview, program, reopen, step
from normjax.train.sharding import layout, layout_axes, layout_rules, told
from tests import support

FSDP = {
  "train.layout.fsdp": 8,
  "train.layout.min_size": 1,
  "train.num_devices": 8,
  "train.batch_size": 16,
}
COLLECTIVES = (
  "all-gather", "all-reduce", "reduce-scatter", "all-to-all",
  "collective-permute",
)  # fmt: skip


def _described(config, *, here=False):
  """The layout of a config, and its state in shapes."""
  recipe, _ = program.recipe_and_initialize(config)
  made = layout.create(config, recipe, here=here)
  state = jax.eval_shape(
    recipe.start, drawing.of(config).shapes, build.hyper(config)
  )
  return recipe, made, made.abstract_state(state)


def _specs(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf.sharding.spec
    for path, leaf in jax.tree.leaves_with_path(tree)
  }


# ----- The mesh -----


@pytest.mark.parametrize(
  ("asked", "sizes"),
  [
    ((0, 0, 1, 1), {"data": 8}),
    ((2, 0, 1, 1), {"data": 2}),
    ((0, 0, 8, 1), {"data": 1, "fsdp": 8}),
    ((0, 0, 2, 2), {"data": 2, "fsdp": 2, "tensor": 2}),
    ((0, 1, 1, 2), {"data": 1, "tensor": 2}),  # Six stay idle.
  ],
)
def test_sizes_of_the_mesh(asked, sizes):
  assert layout_axes.Asked(*asked).sizes(8) == sizes


@pytest.mark.parametrize(
  ("asked", "message"),
  [
    ((9, 0, 1, 1), "train.num_devices=9; allowed: 0 .all. to 8"),
    ((0, 0, 3, 1), "fsdp=3 needs a multiple of 3 devices; 8 are in use"),
    ((0, 0, 16, 1), "fsdp=16 needs a multiple of 16 devices; 8"),
    ((0, 1, 1, 16), "data=1 x train.layout.tensor=16 needs 16 devices; 8"),
    ((4, 4, 2, 1), "data=4 x train.layout.fsdp=2 needs 8 devices; 4"),
  ],
)
def test_a_mesh_that_does_not_come_out_is_refused(asked, message):
  with pytest.raises(errors.UserError, match=message):
    layout_axes.Asked(*asked).sizes(8)


def test_a_plan_does_not_need_the_devices():
  assert layout_axes.Asked(0, 0, 16, 2).elsewhere(1) == 32
  assert layout_axes.Asked(0, 0, 4, 1).elsewhere(8) == 8
  assert layout_axes.Asked(64, 0, 4, 1).elsewhere(8) == 64


# ----- The rules -----

BOTH = layout_rules.Splitting({"data": 1, "fsdp": 4, "tensor": 2}, 64)


@pytest.mark.parametrize(
  ("role", "shape", "spec"),
  [
    (roles.kernel("embed", "mlp"), (16, 48), P("fsdp", "tensor")),
    (roles.kernel("mlp", "embed"), (48, 16), P("tensor", "fsdp")),
    (
      roles.kernel("embed", "kv_heads", "head_dim", outputs=2),
      (16, 2, 8),
      P("fsdp", "tensor", None),
    ),
    # The features of a head stay together.
    (
      roles.kernel("heads", "head_dim", "embed"),
      (6, 8, 16),
      P("tensor", None, "fsdp"),
    ),
    (roles.embedding("vocab", "embed"), (256, 17), P("tensor", None)),
    (roles.embedding("vocab", "embed"), (257, 16), P(None, "tensor")),
    (roles.conv(), (4, 4, 4, 8), P(None, None, "fsdp", "tensor")),
    (roles.bias("mlp"), (64,), P()),
    (roles.gain("embed"), (64,), P()),
    (roles.kernel("in", "out"), (7, 9), P()),  # 63 entries.
    (roles.Role(roles.Kind.OTHER, axes=(None, None)), (7, 32), P(None, "fsdp")),
    (roles.Role(roles.Kind.STATISTIC), (64, 64), P()),
  ],
)
def test_the_first_rule_that_takes_a_variable(role, shape, spec):
  if "fsdp" not in spec and spec != P():
    with pytest.raises(errors.UserError, match="fsdp=4 does not divide a,"):
      BOTH("a", role, shape)
    splitting = layout_rules.Splitting({"data": 4, "tensor": 2}, 64)
    assert splitting("a", role, shape) == spec
  else:
    assert BOTH("a", role, shape) == spec


def test_stacked_layers_are_not_split_by_layer():
  role = roles.Role(
    roles.Kind.KERNEL, roles.matrix(2), (model_roles.STACKED, "in", "out")
  )
  assert BOTH("a", role, (4, 4, 6)) == P(None, "fsdp", "tensor")


def test_an_axis_that_does_not_divide_is_named_with_the_remedy():
  role = roles.kernel("embed", "mlp")
  with pytest.raises(errors.UserError) as caught:
    BOTH("layers/0/feed_forward/up/kernel", role, (2048, 5461))
  assert str(caught.value) == (
    "train.layout.tensor=2 does not divide layers/0/feed_forward/up/kernel, of"
    " shape (2048, 5461): mlp=5461. Choose a size of the model or of"
    " train.layout that comes out even, or train.layout.min_size=11184129,"
    " which leaves this and all smaller parameters whole."
  )
  # Its other axis will do.
  only = layout_rules.Splitting({"data": 1, "fsdp": 8}, 64)
  assert only("a", role, (2048, 5461)) == P("fsdp", None)


def test_a_plan_refuses_before_anything_is_compiled():
  config = support.tiny(
    FSDP, {"train.layout.fsdp": 2, "train.layout.tensor": 4}
  )
  with pytest.raises(errors.UserError, match=r"tensor=4 does not divide .*=2"):
    preview.preview(config)


# ----- Names of runs -----


def test_the_default_layout_is_in_no_run_id():
  config = configure.load("configs/default.py")
  assert "layout" not in configure.to_dict(config)["train"]
  bare = configure.load("configs/default.py")
  with bare.unlocked():
    del bare.train.layout
  assert configure.run_id(bare) == configure.run_id(config)
  other = configure.override(bare, {"train.layout.fsdp": 8})
  assert configure.to_dict(other)["train"]["layout"] == {"fsdp": 8}
  assert build.program_key(other) != build.program_key(config)


# ----- State -----


@pytest.mark.parametrize(
  ("name", "field", "spec"),
  [
    ("adamw", "0/nu/layers/0/feed_forward/up/kernel", P("fsdp", None)),
    ("adafactor", "v_col/layers/0/feed_forward/up/kernel", P("fsdp")),
    ("conda", "basis/layers/0/attention/key/kernel", P(None, None, "fsdp")),
    ("adam_8bit", "codes/layers/0/feed_forward/down/kernel", P(None, "fsdp")),
    # Shards of a row are 256 columns, one block each.
    ("adam_8bit", "absmax/layers/0/feed_forward/down/kernel", P(None, "fsdp")),
  ],
)
def test_an_optimizer_says_where_its_state_lies(name, field, spec):
  sizes = {"model.model_dim": 2048, "model.hidden_dim": 341}
  _, _, state = _described(support.tiny(FSDP, sizes, {"optimizer.name": name}))
  found = [
    found
    for path, found in _specs(state.optimizer_state).items()
    if path.endswith(field)
  ]
  assert found
  assert {*found} == {spec}


def test_moments_of_optax_lie_as_their_parameters():
  """Of one's own optimizer too, which knows nothing of meshes."""
  own = optax.MultiSteps(optax.adamw(0.1), 2).gradient_transformation()
  _, made, state = _described(support.tiny_mlp(FSDP))
  state = state._replace(optimizer_state=jax.eval_shape(own.init, state.params))
  made = dataclasses.replace(made, init=own.init)
  found = _specs(made.abstract_state(state).optimizer_state)
  split = {path: s for path, s in _specs(state.params).items() if any(s)}
  assert len(split) == 2
  for kind in ("acc_grads", "inner_opt_state/0/mu", "inner_opt_state/0/nu"):
    assert {path: found[f"{kind}/{path}"] for path in split} == split


def test_an_init_that_knows_no_mesh_is_traced_without():
  def init(params):
    stack = lambda w: jnp.stack([w, jnp.ones(w.shape)])  # noqa: E731
    return jax.tree.map(stack, params)

  _, made, state = _described(support.tiny_mlp(FSDP))
  state = state._replace(optimizer_state=jax.eval_shape(init, state.params))
  made = dataclasses.replace(made, init=init)
  specs = _specs(made.abstract_state(state).optimizer_state)
  assert P(None, "fsdp", None) in specs.values()


def test_an_init_that_multiplies_split_parameters_is_refused():
  """One of a user's own; ours make arrays like the parameters."""
  config = support.tiny_mlp(FSDP)
  _, made, state = _described(config)
  own = dataclasses.replace(
    made, init=lambda params: jax.tree.map(lambda w: w.T @ w, params)
  )
  with pytest.raises(errors.UserError, match="the optimizer's init cannot be"):
    own.abstract_state(state)


# ----- Compiled programs -----


def _collectives(config):
  """Bytes by collective of an optimizer's update over eight devices."""
  recipe, made, state = _described(config, here=True)
  hyper = build.hyper(config)

  def update(gradients, state, params):
    return recipe.make_optimizer(hyper).update(gradients, state, params)

  given = state.params, state.optimizer_state
  where = jax.tree.map(lambda leaf: leaf.sharding, given)
  compiled = (
    jax.jit(made.traced(update), out_shardings=where)
    .lower(*given, state.params)
    .compile()
  )
  found = {}
  for kernel in hlo.kernels(compiled.as_text()):
    kind = kernel.kind.removesuffix("-start")
    if kind in COLLECTIVES:
      found[kind] = found.get(kind, 0) + kernel.bytes * kernel.times
  return found


@pytest.mark.parametrize(
  ("name", "sizes"),
  [("adamw", {}), ("adam_8bit", {"model.model_dim": 2048})],
)
def test_elementwise_updates_exchange_nothing(name, sizes):
  config = support.tiny(
    FSDP, {"optimizer.name": name, "model.hidden_dim": 341}, sizes
  )
  assert _collectives(config) == {}


@pytest.mark.parametrize(
  "name", ["muon", pytest.param("swan", marks=pytest.mark.slow)]
)
def test_whole_matrices_are_exchanged_once_each_way(name):
  """Not gathered: a device gets its own ones, and gives them back."""
  config = support.tiny(FSDP, {"optimizer.name": name, "model.num_layers": 4})
  found = _collectives(config)
  assert {*found} == {"all-to-all"}
  _, _, state = _described(config)
  share = sum(leaf.size * 4 / 8 for leaf in jax.tree.leaves(state.params))
  # In and out, each read and written; of 12, 8 and 4 matrices padded to 16 and
  # 8, and heads that lie in another order.
  assert found["all-to-all"] <= 2 * 2 * 2 * share


def _run(config, steps=2):
  compiled, _ = program.get(config)
  made, dataset = compiled.layout, build.dataset(config)
  hyper = made.put_scalars(build.hyper(config))
  batches = [
    made.put_batch(dataset.train_batch(0, n, config.train.batch_size))
    for n in range(steps)
  ]
  state, losses = compiled.initialize(hyper, batches[0]), []
  for batch in batches:
    state, metrics = compiled.step(state, batch, hyper)
    losses.append(float(jax.block_until_ready(metrics)["loss"]))
  return compiled, state, losses


@pytest.mark.parametrize(
  ("make", "changes"),
  [
    # With batch_norm, before which biases have no gradient but rounding, of
    # which Adam would make a step.
    (support.tiny_mlp, {"optimizer.name": "sgd"}),
    pytest.param(
      support.tiny_resnet,
      {"train.layout.min_size": 256},
      marks=pytest.mark.slow,
    ),
    pytest.param(
      support.tiny,
      {"model.scan_layers": True, "model.remat": True, "model.num_layers": 2},
      marks=pytest.mark.slow,
    ),
    pytest.param(
      support.tiny,
      {"train.layout.fsdp": 2, "train.layout.tensor": 2},
      marks=pytest.mark.slow,
    ),
    pytest.param(
      support.tiny,
      {
        "train.layout.fsdp": 1,
        "train.layout.matrices": "distributed",
        "optimizer.name": "muon",
      },
      marks=pytest.mark.slow,
    ),
  ],
)
def test_eight_devices_give_what_one_gives(make, changes, tmp_path):
  """Also the checkpoint: saved on eight, restored on one."""
  split = configure.override(make(), FSDP | changes)
  alone = {k: v for k, v in changes.items() if "layout" not in k}
  whole = configure.override(make(), {"train.batch_size": 16, **alone})
  compiled, state, losses = _run(split)
  _, expected, want = _run(whole)
  np.testing.assert_allclose(losses, want, rtol=1e-5)
  # Sums of the same float32 terms in another order, see test_step.REORDERED.
  kept = (state.params, state.stats), (expected.params, expected.stats)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *kept
  )
  if compiled.layout.is_whole:
    return
  assert any(
    not leaf.sharding.is_fully_replicated
    for leaf in jax.tree.leaves(state.optimizer_state)
  )
  checkpoints = checkpoint.Checkpoints(tmp_path, keep=1)
  checkpoints.save(compiled.snapshot(state), {})
  checkpoints.close()
  restored, _, problems = checkpoint.Checkpoints(tmp_path, keep=1).restore(
    program.get(whole)[0].abstract_state
  )
  assert problems == []
  jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(state))
  for leaf in jax.tree.leaves(restored):
    assert len(leaf.sharding.device_set) == 1


def test_statistics_per_device_are_those_of_micro_batches():
  """Of the same parts: a device has a run of examples, they have strides."""
  changes = {"train.batch_size": 16, "optimizer.name": "sgd"}
  apart = support.tiny_mlp(
    changes,
    {"train.num_devices": 2, "train.layout.batch_statistics": "device"},
  )
  parts = support.tiny_mlp(changes, {"train.accumulation_steps": 2})
  batch = build.dataset(apart).train_batch(0, 0, 16)
  order = np.arange(16).reshape(2, 8).T.ravel()
  strided = {name: np.asarray(value)[order] for name, value in batch.items()}
  states = []
  for config, given in ((apart, batch), (parts, strided)):
    compiled, _ = program.get(config)
    hyper = compiled.layout.put_scalars(build.hyper(config))
    given = compiled.layout.put_batch(given)
    state = compiled.initialize(hyper, given)
    states.append(jax.device_get(compiled.step(state, given, hyper)))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *states
  )


def test_statistics_per_device_need_the_whole_model():
  config = support.tiny_mlp(FSDP, {"train.layout.batch_statistics": "device"})
  with pytest.raises(errors.UserError, match="needs the whole model on every"):
    preview.preview(config)


def test_a_split_run_opens_on_fewer_devices(monkeypatch):
  config = support.tiny_mlp(FSDP)
  assert not reopen.open_config(config).layout.is_whole
  monkeypatch.setattr(jax, "device_count", lambda: 2)
  opened = reopen.open_config(config)
  assert opened.layout.is_whole
  assert opened.layout.mesh.size == 2


@pytest.mark.parametrize("scans", [True, False])
def test_the_stream_is_held_between_blocks(scans):
  seen = []

  def place(x):
    seen.append(x.shape)
    return x

  model = models.make(
    "llama", num_layers=3, model_dim=16, num_heads=2, scan_layers=scans
  )
  tokens = jax.ShapeDtypeStruct((4, 8), np.int32)
  jax.eval_shape(functools.partial(model, train=False), tokens)
  assert seen == []
  with stream_layout.placed_by(place):
    jax.eval_shape(lambda x: model(x, train=False), tokens)
  # A loop is traced once: what goes in, what comes out, and the end.
  assert seen == [(4, 8, 16)] * (3 if scans else 4)


@pytest.mark.slow
def test_a_loop_over_blocks_gathers_no_batch():
  """Held, the stream is never in one piece on a device."""
  config = support.tiny(
    FSDP,
    {"model.num_layers": 4, "model.scan_layers": True, "model.model_dim": 64},
  )
  text = program.lower(config).step.compile().as_text()
  stream = "f32[16,16,64]"  # (batch, tokens, features) of all devices.
  gathers = [line for line in text.splitlines() if " all-gather(" in line]
  assert gathers
  assert not any(stream in line.split(" all-gather(")[0] for line in gathers)


@pytest.mark.slow
def test_a_billion_parameters_fit_eight_chips(monkeypatch, capsys):
  """Llama 1b in bfloat16, 8 x 1024 tokens, on v5e with 16 GB each.

  Data parallel its state alone is 16.07 GB a device.
  """
  if (reason := aot.missing("v5e")) is not None:
    pytest.skip(reason)
  tokens = np.zeros((8, 1024), np.int32)
  weight = np.ones((8, 1024), np.float32)
  batch = {"inputs": tokens, "targets": tokens, "weight": weight}
  dataset = types.SimpleNamespace(
    reads="tokens",
    targets="classes",
    model_options={"vocab_size": 32_000},
    train_batch=lambda *which: batch,
  )
  monkeypatch.setattr(build, "dataset", lambda config: dataset)
  config = configure.override(
    configure.load("configs/default.py"),
    {
      "model.size": "1b",
      "model.scan_layers": True,
      "model.remat": True,
      "train.precision": "bfloat16",
      "train.layout.fsdp": 8,
    },
  )
  recipe, _ = program.recipe_and_initialize(config)
  chips = aot.described("v5e", 8)
  made = layout.create(config, recipe, devices=chips)
  hyper = build.hyper(config)
  state = made.abstract_state(
    jax.eval_shape(recipe.start, drawing.of(config).shapes, hyper)
  )
  shardings = jax.tree.map(lambda leaf: leaf.sharding, state)

  def run(state, batch, hyper):
    state, metrics = step.train_step(recipe, state, batch, hyper)
    return jax.lax.with_sharding_constraint(state, shardings), metrics

  compiled = aot.compile(
    made.traced(run),
    state,
    layout.abstract(batch, made.batch),
    layout.abstract(hyper, made.everywhere),
    target="v5e",
    devices=8,
    donate=0,
  )
  held = told.bytes_per_device(state)
  with capsys.disabled():
    print(
      f"\nllama 1b, 8 x v5e: {held / 1e9:.2f} GB of state and"
      f" {compiled.temporary_bytes / 1e9:.2f} GB beside it per device"
    )
  assert held < 2.05e9
  assert held + compiled.temporary_bytes < 8e9
