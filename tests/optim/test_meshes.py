"""Every optimizer on explicit axes and under shard_map; where state is born."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from normjax import optim
from tests.contracts import optimizer_meshes
from tests.contracts.optimizer_contract import gradients_like, small_tree
from tests.contracts.optimizer_meshes import make_mesh, shard, types
from tests.optim import cases

WRAPPERS = {
  "normalize_and_project": lambda: optim.normalize_and_project(
    optax.sgd(0.1), per="unit", vectors="normalize", every=2
  ),
  "sign_constrained": lambda: optim.sign_constrained(optax.sgd(0.1), None),
  "quantize_state": lambda: optim.quantize_state(optax.adam(0.1), min_size=8),
  "adaptive_grad_clip": optim.adaptive_grad_clip,
  "scale_by_multi_norm": lambda: optim.scale_by_multi_norm(
    ["row_l2", "spectral", "sign", "frobenius"], 2
  ),
  "scale_by_path": lambda: optim.scale_by_path([(".*", 0.5)]),
  "scale_by_trust_ratio": optim.scale_by_trust_ratio,
}


@pytest.mark.parametrize("case", cases.by_family(), ids=str)
class TestMeshes(optimizer_meshes.OptimizerMeshes):
  """The shared contract, on one of each family; on all in `test-all`."""


# Elementwise; of matrices; with a basis; in blocks. Their numbers stand for the
# others', whose types `TestMeshes` holds.
NUMBERS = ("adamw", "muon", "galore", "adam_8bit")


@pytest.mark.parametrize(
  "case",
  [
    pytest.param(case, marks=() if case.name in NUMBERS else pytest.mark.slow)
    for case in cases.first_cases()
  ],
  ids=str,
)
class TestMeshValues(optimizer_meshes.OptimizerMeshValues):
  """Types and partitioning are shared code; each method's numbers are slow."""


def _traced(tx, params, state):
  return jax.jit(tx.update).trace(params, state, params).out_info


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_on_explicit_axes(name):
  params = shard(small_tree(), make_mesh(AxisType.Explicit))
  tx = WRAPPERS[name]()
  state = tx.init(params)
  for leaf in jax.tree.leaves(state):
    assert len(leaf.sharding.device_set) == 8
  updates, new_state = _traced(tx, params, state)
  assert types(updates) == types(params)
  assert types(new_state) == types(state)


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_under_shard_map(name):
  mesh = jax.make_mesh((8,), ("d",))
  params = jax.tree.map(lambda w: jnp.stack([w] * 8), small_tree())
  params = jax.device_put(params, NamedSharding(mesh, PartitionSpec("d")))

  @jax.shard_map(mesh=mesh, in_specs=PartitionSpec("d"), out_specs=None)
  def run(params):
    params = jax.tree.map(lambda w: w[0], params)
    tx = WRAPPERS[name]()

    def step(carry, _):
      return tx.update(params, carry[1], params), None

    jax.lax.scan(step, (params, tx.init(params)), length=2)

  jax.jit(run).trace(params)


@pytest.mark.parametrize("layout", optimizer_meshes.LAYOUTS)
@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("adafactor", {"momentum": 0.9}),
    ("adam_8bit", {}),
    ("lion_8bit", {"block_layout": "flat"}),
    ("galore", {"rank": 4}),
    ("apollo", {"rank": 4}),
    ("dion", {"rank": 4}),
    ("soap", {"max_precond_dim": 128}),
  ],
)
def test_large_leaves_on_explicit_axes(name, options, layout):
  """What small trees don't reach: factored, quantised and low-rank state."""
  mesh = make_mesh(AxisType.Explicit)
  shapes = {"kernel": (128, 256), "conv": {"kernel": (4, 3, 8, 16)}}
  params = jax.tree.map(
    jnp.ones, shapes, is_leaf=lambda node: isinstance(node, tuple)
  )
  params = shard(params, mesh, optimizer_meshes.LAYOUTS[layout])
  tx = optim.make(name, learning_rate=0.1, **options)
  state = jax.jit(tx.init).trace(params).out_info
  updates, new_state = _traced(tx, params, state)
  assert types(updates) == types(params)
  assert types(new_state) == types(state)


def test_reduced_state_keeps_the_axis_it_shares():
  params = {"kernel": jnp.ones((8, 24)), "out": {"kernel": jnp.ones((24, 8))}}
  params = shard(params, make_mesh(AxisType.Auto))

  def specs(tx, field):
    held = types(getattr(tx.init(params), field))
    return held["kernel"][2], held["out/kernel"][2]

  galore = optim.scale_by_galore(rank=2)
  # (n, 2, 24) and (n, 24, 2): the longer side is outputs, then inputs.
  assert specs(galore, "mu") == ((None, None, "t"), (None, "f", None))
  # (n, 2, 8): of the other side.
  assert specs(galore, "basis") == ((None, None, "f"), (None, None, "t"))
  assert specs(optim.scale_by_racs(), "s") == ((None, "f"), (None, "f"))
  assert specs(optim.scale_by_racs(), "q") == ((None, "t"), (None, "t"))
  assert specs(optim.scale_by_soap(), "input_gram") == ((None,) * 3,) * 2


def test_jitted_init_has_the_parameters_types():
  """Also without `jax.set_mesh`, where constants have no mesh."""
  mesh = make_mesh(AxisType.Explicit)
  params = shard(small_tree(), mesh)
  for name in ("adamw", "muon", "galore", "conda"):
    init = optim.make(name, learning_rate=0.1).init
    assert types(jax.jit(init).trace(params).out_info) == types(init(params))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_update_out_of_jit(kind):
  mesh = make_mesh(kind)
  params = {"kernel": jnp.eye(8), "bias": jnp.ones(8)}
  gradients = gradients_like(params)
  tx = optim.muon(jax.device_put(0.1, NamedSharding(mesh, PartitionSpec())))
  spread = shard(params, mesh)
  with jax.set_mesh(mesh):
    actual, _ = tx.update(shard(gradients, mesh), tx.init(spread), spread)
  tx = optim.muon(0.1)
  expected, _ = tx.update(gradients, tx.init(params), params)
  for a, e, w in zip(
    *map(jax.tree.leaves, (actual, expected, spread)), strict=True
  ):
    assert a.sharding.is_equivalent_to(w.sharding, w.ndim)
    # Five steps of slope 3.4445 amplify sums of eight terms.
    np.testing.assert_allclose(a, e, atol=0.1 * 3.4445**5 * 8 * 2**-24)


def test_replicated_leaves_stay_replicated_beside_varying_ones():
  """Matrices of one shape are stacked; a stack varies where any row does."""
  mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
  params = {"own": {"kernel": jnp.ones((8, 4, 4))}, "all": jnp.ones((4, 4))}
  specs = {"own": {"kernel": PartitionSpec("d")}, "all": PartitionSpec()}

  def update(params):
    tx = optim.scale_by_muon()
    return tx.update(params, tx.init(params))[0]

  jax.jit(
    jax.shard_map(update, mesh=mesh, in_specs=(specs,), out_specs=specs)
  ).trace(params)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("name", ["badam", "lisa", "bcd"])
def test_layers_that_a_mesh_cuts_move_as_on_one_device(name, kind):
  """A layer is a block of a stack; which device has it is known in the step."""
  options = {"switch_every": 2} if name != "bcd" else {"order": "greedy"}
  tx = getattr(optim, name)(0.1, stacked=("layers/.*",), **options)
  rng = np.random.default_rng(0)
  params, *steps = (
    {
      "emb": {"embedding": np.float32(rng.normal(size=(8, 4)))},
      "layers": {
        "kernel": np.float32(rng.normal(size=(8, 4, 4))),
        "bias": np.float32(rng.normal(size=(8, 4))),
      },
    }
    for _ in range(5)
  )
  mesh = jax.make_mesh((8,), ("d",), axis_types=(kind,))

  def put(tree):
    cut = NamedSharding(mesh, PartitionSpec("d"))
    whole = NamedSharding(mesh, PartitionSpec())
    return {
      "emb": jax.device_put(tree["emb"], whole),
      "layers": jax.device_put(tree["layers"], cut),
    }

  def trained(place):
    held = place(params)
    state, update = tx.init(held), jax.jit(tx.update)
    for gradients in steps:
      updates, state = update(place(gradients), state, held)
      held = jax.jit(optax.apply_updates)(held, updates)
    return held

  there = trained(put)
  assert there["layers"]["kernel"].sharding.spec[0] == "d"
  jax.tree.map(np.testing.assert_array_equal, trained(lambda t: t), there)
