"""Whole matrices shared out over devices give what one device gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from normjax.optim import stacking, whole_matrices
from tests.contracts.optimizer_contract import (
  assert_trees_close,
  gradients_like,
  plain,
)
from tests.contracts.optimizer_meshes import square_tree
from tests.optim import cases

# Products alone; products and an SVD in a branch of a condition.
ALWAYS = ("muon", "conda")


@functools.cache
def make_mesh(kind=AxisType.Auto):
  return jax.make_mesh((8,), ("fsdp",), axis_types=(kind,))


def _spec(w):
  """The first axis that eight devices divide, as `train.layout.fsdp` has it."""
  even = [n for n, size in enumerate(w.shape) if size % 8 == 0 and w.ndim > 1]
  return PartitionSpec(*[None] * even[0], "fsdp") if even else PartitionSpec()


def _on(mesh, tree, spec=_spec):
  return jax.tree.map(lambda w: NamedSharding(mesh, spec(w)), tree)


@pytest.mark.parametrize(
  "case",
  [
    pytest.param(case, marks=() if case.name in ALWAYS else pytest.mark.slow)
    for case in cases.first_cases()
  ],
  ids=str,
)
def test_split_parameters_give_what_whole_ones_give(case):
  """The state lies as the optimizer says; the numbers are the same."""
  params = square_tree()
  init, update = plain(case)
  state = init(params)
  typed = jax.device_put(params, _on(make_mesh(AxisType.Explicit), params))
  said = jax.jit(case.make().init).trace(typed).out_info
  mesh = make_mesh()
  where = jax.tree.map(
    lambda x: NamedSharding(mesh, getattr(x.sharding, "spec", PartitionSpec())),
    said,
  )

  def shared(gradients, state, params):
    with whole_matrices.over(mesh, cut=True):
      return case.make().update(gradients, state, params)

  spread_update = jax.jit(shared, out_shardings=(_on(mesh, params), where))
  spread = jax.device_put(params, _on(mesh, params))
  spread_state = jax.device_put(state, where)
  # Sums in another order, amplified as in one step.
  tolerance = max(case.rounding, 1e-4)
  for seed in (1, 2):
    gradients = gradients_like(params, seed)
    expected, state = update(gradients, state, params)
    actual, spread_state = spread_update(
      jax.device_put(gradients, _on(mesh, params)), spread_state, spread
    )
    assert_trees_close(actual, expected, tolerance, tolerance * 0.01)


def _stacks(*counts):
  rng = np.random.default_rng(0)
  return [
    jnp.asarray(rng.normal(size=(count, 3, 4)), jnp.float32) for count in counts
  ]


@pytest.mark.parametrize("cut", [True, False])
def test_every_matrix_comes_back_where_it_was(cut):
  """Also of stacks that do not come out even; the devices have a part each."""
  x = _stacks(1, 2, 8)
  seen = []

  def function(x):
    seen.append(len(x))
    return {"twice": 2 * x, "sum": jnp.sum(x, axis=(1, 2))}

  @jax.jit
  def run(x):
    with whole_matrices.over(make_mesh(), cut=cut):
      return stacking.stacked(function, x, whole=True)

  x = jax.device_put(x, NamedSharding(make_mesh(), PartitionSpec()))
  for got, own in zip(run(x), x, strict=True):
    np.testing.assert_array_equal(got["twice"], 2 * own)
    np.testing.assert_allclose(got["sum"], own.sum((1, 2)), rtol=1e-5)
  assert seen == [2]  # Eleven matrices, two per device at most.


def test_what_is_not_shared_out():
  x, seen = _stacks(1), []

  def function(x):
    seen.append(jax.sharding.get_abstract_mesh().manual_axes)
    return x

  def run(x, **over):
    with whole_matrices.over(make_mesh(), **over):
      return stacking.one_by_one(function, x)

  jax.eval_shape(lambda x: stacking.stacked(function, x, whole=True), x)
  jax.eval_shape(lambda x: run(x, cut=False), x)
  assert seen == [(), ()]  # Nobody said so; a lone one that all have anyway.
  jax.eval_shape(lambda x: run(x, cut=True), x)
  assert seen[2] == ("fsdp",)
  mapped = jax.shard_map(
    lambda x: run([x], cut=True)[0],
    mesh=make_mesh(),
    in_specs=PartitionSpec("fsdp"),
    out_specs=PartitionSpec("fsdp"),
  )
  jax.eval_shape(mapped, jnp.ones((8, 3, 4)))
  assert seen[3] == ("fsdp",)
  assert len(seen) == 4
