"""What every optimizer must do on meshes; `tests/optim/test_meshes.py` runs it.

Eight devices as (4, 2): "f" cuts the first axis of matrices, as FSDP does, "t"
the last axis of any leaf, as tensor parallelism does.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from normjax.optim import groups
from tests.contracts.optimizer_contract import (
  assert_trees_close,
  gradients_like,
  plain,
  small_tree,
)

LAYOUTS = {"rows": ("f",), "columns": ("t",), "both": ("f", "t")}


def make_mesh(kind):
  """The mesh of eight devices, its axes of one type."""
  return jax.make_mesh((4, 2), ("f", "t"), axis_types=(kind, kind))


def shard(tree, mesh, axes=("f", "t")):
  """The tree on the mesh, cut along these of its axes."""

  def put(w):
    spec: list[str | None] = [None] * w.ndim
    if "f" in axes and w.ndim > 1 and w.shape[0] % 4 == 0:
      spec[0] = "f"
    if "t" in axes and w.shape[-1] % 2 == 0:
      spec[-1] = "t"
    return jax.device_put(w, NamedSharding(mesh, PartitionSpec(*spec)))

  return jax.tree.map(put, tree)


def square_tree(seed=0):
  """Kernels of full rank, also a stack, whose eigenvectors rounding leaves."""
  rng = np.random.default_rng(seed)
  shapes = {
    "query": {"kernel": (8, 2, 4), "bias": (2, 4)},
    "layers": {"mlp": {"kernel": (4, 8, 8)}},
    "norm": {"scale": (8,)},
  }
  return jax.tree.map(
    lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
    shapes,
    is_leaf=lambda node: isinstance(node, tuple),
  )


def types(tree):
  """Shape, dtype and sharding of each leaf, by path; of arrays or avals."""

  def spec(leaf):
    sharding = getattr(leaf, "sharding", None)
    known = getattr(sharding, "spec", ())
    return (*known, *[None] * (leaf.ndim - len(known)))

  return {
    path: (leaf.shape, leaf.dtype, spec(leaf))
    for path, leaf in groups.leaves(tree)
  }


def per_device(case, params, gradients, num_steps):
  """Each device's own parameters after some steps; leading axes of size 1."""
  tx = case.make()
  params, gradients = jax.tree.map(lambda x: x[0], (params, gradients))

  def step(carry, _):
    params, state = carry
    updates, state = tx.update(gradients, state, params)
    return (optax.apply_updates(params, updates), state), None

  # The carry's types hold what varies over devices, and what does not.
  (params, _), _ = jax.lax.scan(
    step, (params, tx.init(params)), length=num_steps
  )
  return jax.tree.map(lambda x: x[None], params)


class OptimizerMeshes:
  """The types on meshes; a subclass parametrizes `case`."""

  @pytest.mark.parametrize("layout", LAYOUTS)
  def test_explicit_axes_stay(self, case, layout):
    """Updates and state have the types that went in, in any context."""
    mesh = make_mesh(AxisType.Explicit)
    params = shard(small_tree(), mesh, LAYOUTS[layout])
    whole = NamedSharding(mesh, PartitionSpec())
    scalars = jax.device_put(
      {"learning_rate": jnp.float32(0.01)}
      | {key: jnp.float32(value) for key, value in case.scalars().items()},
      whole,
    )
    state = jax.jit(case.make().init).trace(params).out_info

    def update(params, state, scalars):
      return case.make(**scalars).update(params, state, params)

    # Made when they are entered: `set_mesh` acts at once.
    contexts = [contextlib.nullcontext, lambda: jax.set_mesh(mesh)]
    for context in contexts if layout == "both" else contexts[:1]:
      with context():
        updates, new_state = (
          jax.jit(update).trace(params, state, scalars).out_info
        )
      assert types(updates) == types(params)
      assert types(new_state) == types(state)

  def test_state_is_born_on_the_mesh(self, case):
    """Nothing on one device; what has a parameter's shape, where that is."""
    for kind in (AxisType.Auto, AxisType.Explicit):
      params = dict(groups.leaves(shard(small_tree(), make_mesh(kind))))
      state = case.make().init(shard(small_tree(), make_mesh(kind)))
      for path, leaf in groups.leaves(state):
        assert len(leaf.sharding.device_set) == 8, path
        for name, w in params.items():
          if path.endswith("/" + name) and leaf.shape == w.shape:
            assert leaf.sharding.is_equivalent_to(w.sharding, w.ndim), path

  def test_shard_map_traces(self, case):
    """Leaves that vary over devices keep to that in every carry and branch."""
    for kind in (AxisType.Auto, AxisType.Explicit):
      mesh = jax.make_mesh((8,), ("d",), axis_types=(kind,))
      params = _one_for_each_device(small_tree(), mesh)
      mapped = jax.shard_map(
        lambda params: per_device(case, params, params, num_steps=2),
        mesh=mesh,
        in_specs=PartitionSpec("d"),
        out_specs=PartitionSpec("d"),
      )
      moved = jax.jit(mapped).trace(params).out_info
      assert jax.tree.structure(moved) == jax.tree.structure(params)


class OptimizerMeshValues:
  """The numbers on meshes; a subclass parametrizes `case`."""

  def test_explicit_axes_equal_one_device(self, case):
    mesh = make_mesh(AxisType.Explicit)
    params = square_tree()
    init, update = plain(case)
    state = init(params)
    spread = shard(params, mesh)
    with jax.set_mesh(mesh):
      spread_state = jax.jit(case.make().init)(spread)
    update_spread = jax.jit(case.make().update)
    # Sums in another order, amplified as in one step.
    tolerance = max(case.rounding, 1e-4)
    for seed in (1, 2):
      gradients = gradients_like(params, seed)
      expected, state = update(gradients, state, params)
      actual, spread_state = update_spread(
        shard(gradients, mesh), spread_state, spread
      )
      assert_trees_close(actual, expected, tolerance, tolerance * 0.01)

  def test_shard_map_equals_each_device_alone(self, case):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    alone = square_tree()
    params = _one_for_each_device(alone, mesh)
    gradients = _one_for_each_device(gradients_like(alone), mesh)
    moved = jax.jit(
      jax.shard_map(
        lambda p, g: per_device(case, p, g, num_steps=1),
        mesh=mesh,
        in_specs=PartitionSpec("d"),
        out_specs=PartitionSpec("d"),
      )
    )(params, gradients)
    init, update = plain(case)
    for n in (0, 5):
      p, g = jax.tree.map(lambda x, n=n: x[n], (params, gradients))
      p, g = jax.device_put((p, g), jax.devices()[0])
      updates, _ = update(g, init(p), p)
      # The same operations: one rounding of the sum, and that of one step.
      tolerance = max(case.rounding, 1e-6)
      assert_trees_close(
        jax.tree.map(lambda x, n=n: x[n], moved),
        optax.apply_updates(p, updates),
        tolerance,
        tolerance * 0.01,
      )


def _one_for_each_device(tree, mesh):
  # Of another scale on each, which no mean over devices would leave.
  stacked = jax.tree.map(
    lambda w: jnp.stack([w * (n + 1) for n in range(8)]), tree
  )
  return jax.device_put(stacked, NamedSharding(mesh, PartitionSpec("d")))
