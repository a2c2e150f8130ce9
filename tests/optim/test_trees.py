"""Optimizers in other people's trees: None, boxes, dataclasses, partitions."""

import dataclasses

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from normjax import errors, optim
from normjax.optim import groups, masks
from tests.contracts import optimizer_trees
from tests.optim import cases
from tests.support import normal


def knows_matrices(parameters):
  """Those of the cases that have `dims`."""
  return [p for p in parameters if "dims" in p.values[0].parameters]


@pytest.mark.parametrize("case", cases.by_family(), ids=str)
class TestTrees(optimizer_trees.TreeContract):
  """The shared contract; on every optimizer in `test-all`."""


@pytest.mark.parametrize("case", knows_matrices(cases.by_family()), ids=str)
class TestMatrices(optimizer_trees.MatrixContract):
  """The shared contract, on every optimizer that knows matrices."""


def test_a_method_sees_only_its_own_leaves():
  """Apart from the other transforms' what siblings hide is assumed."""
  params = {
    "q_proj": normal(3, 6, 4),
    "norm": {"scale": normal(3, 6)},
  }
  labels = {"q_proj": "matrices", "norm": "vectors"}

  def text(**options):
    transforms = {"matrices": optim.muon(0.1, **options), "vectors": None}
    transforms["vectors"] = optax.sgd(0.1)
    return optimizer_trees.program(optax.partition(transforms, labels), params)

  heads = {"q_proj": optim.MatrixDims(0, (1, 2)), "norm": None}
  assert text() == text(dims=heads)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Pair:
  """A dataclass whose attribute is called as what NNX and Linen box."""

  value: object


def test_paths_of_values():
  """Boxes of one parameter have no name in a path; attributes do."""
  ones = jnp.ones(2)
  state = nnx.State({"kernel": nnx.Param(ones), "pair": {"value": ones}})
  tree = {
    "state": state,
    "boxed": linen.Partitioned(ones, names=("d",)),
    "pair": Pair(ones),
    "nested": Pair(nnx.Param(ones)),
    "value": ones,
  }
  assert {path for path, _ in groups.leaves(tree)} == {
    "state/kernel",
    "state/pair/value",
    "boxed",
    "pair/value",
    "nested/value",
    "value",
  }
  hidden = jax.tree.map(lambda _: optax.MaskedNode(), tree)
  mask = jax.tree.map(lambda _: True, tree)
  assert masks.resolve_mask(mask, hidden) == []


def test_what_is_a_function():
  """As optax decides it, and a function with arguments bound."""
  network = optimizer_trees.Network()
  mask = jax.tree.map(
    lambda _: True, equinox.filter(network, equinox.is_inexact_array)
  )
  functions = (
    optim.decay_mask,
    optim.by_path([(".*", True)]),
    jax.tree_util.Partial(optim.decay_mask),
    equinox.nn.Lambda(optim.decay_mask),
  )
  trees = (mask, jax.tree.map(lambda _: None, mask), nnx.Param(True), {}, None)
  assert all(map(groups.is_function, functions))
  assert not any(map(groups.is_function, trees))


def test_none_in_functions_of_trees():
  params = optimizer_trees.with_none()
  clean = optimizer_trees.without_none(params)
  for make in (
    optim.by_path([(".*kernel", True), (".*", False)]),
    optim.selective_decay(),
    optim.decay_mask,
    optim.non_negative_mask,
    optim.default_dims,
    optim.channel_dims,
  ):
    made = make(params)
    structure = jax.tree.structure(
      params, is_leaf=lambda node: isinstance(node, jax.Array)
    )
    assert dict(groups.leaves(made)) == dict(groups.leaves(make(clean)))
    assert structure.flatten_up_to(made)
  scale = optim.scale_by_path([("mlp.*", 0.5), (".*", 2.0)])
  updates, _ = scale.update(params, scale.init(params), params)
  assert jax.tree.structure(updates) == jax.tree.structure(params)
  np.testing.assert_array_equal(
    updates["mlp"]["bias"], 0.5 * params["mlp"]["bias"]
  )


@pytest.mark.parametrize("option", ["mask", "dims"])
def test_entries_of_hidden_leaves(option):
  """In a partition too, an entry of no place is a mistake."""
  params = {"a": {"kernel": jnp.ones((2, 3))}, "b": jnp.ones((3, 2))}
  entry = True if option == "mask" else optim.MatrixDims()

  def init(entries):
    tx = optim.muon(0.1, **{option: entries})
    both = optax.partition({0: tx, 1: optax.sgd(0.1)}, {"a": 0, "b": 1})
    return both.init(params)

  init({"a": {"kernel": entry}, "b": entry})
  init({"a": entry, "b": entry})
  with pytest.raises(errors.UserError, match=f"{option} has an entry.*'c'"):
    init({"a": entry, "b": entry, "c": entry})
