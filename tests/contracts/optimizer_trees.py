"""What every optimizer must do in other people's trees.

`TreeContract` holds it, and `MatrixContract` for those with `dims`;
`tests/optim/test_trees.py` runs both. Two transforms move a tree alike where
their programs are the same text, which costs no compilation.
"""

import dataclasses

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import optim
from normjax.optim import draws, groups
from tests.optim import references_projected
from tests.support import normal


def with_none():
  """As filters of Equinox, `use_bias=False` and frozen subtrees leave it."""
  return {
    "attention": {"query": {"kernel": normal(8, 2, 4), "bias": None}},
    "embed": {"embedding": normal(16, 8)},
    "frozen": None,
    "mlp": {"kernel": normal(8, 24), "bias": normal(24), "scale": None},
    "norm": {"scale": normal(8), "bias": None},
  }


def without_none(tree):
  """The same tree without the places of None."""
  if not isinstance(tree, dict):
    return tree
  return {
    key: without_none(below) for key, below in tree.items() if below is not None
  }


def map_with_none(function, tree):
  """`jax.tree.map` that takes None for a leaf."""
  return jax.tree.map(function, tree, is_leaf=lambda leaf: leaf is None)


def program(tx, params):
  """The text of init and update, and the structure of the updates."""

  def run(params):
    return tx.update(params, tx.init(params), params)[0]

  text, updates = jax.make_jaxpr(run, return_shape=True)(params)
  return str(text), jax.tree.structure(updates)


def nested(tx, params):
  """The transform inside what users put it in, which hides the vectors."""
  labels = jax.tree.map(lambda leaf: leaf.ndim > 2, params)
  everywhere = jax.tree.map(lambda _: True, params)
  inner = optax.partition({True: tx, False: optax.sgd(0.1)}, labels)
  inner = optax.chain(optax.masked(inner, everywhere), optax.identity())
  return optax.MultiSteps(inner, 2).gradient_transformation()


def stacks():
  """Layers of a scan, experts, and what says so."""
  return {
    "layers": {
      "q_proj": {"kernel": normal(3, 6, 4)},
      "o_proj": {"kernel": normal(3, 4, 6)},
      "mlp": {"out": {"kernel": normal(3, 5, 6)}},
      "moe": {"experts": {"wi": {"kernel": normal(3, 2, 6, 5)}}},
      "norm": {"scale": normal(3, 6)},
    },
    "experts": {"wo": normal(2, 5, 6)},
  }


def by_hand(params):
  """How the leaves of `stacks` are meant, as `dims`."""
  return jax.tree.map(
    lambda w: optim.MatrixDims(-2, -1) if w.ndim > 2 else None, params
  )


def second_update(tx, params):
  """The updates of the second step: SOAP's first waits for its bases."""
  gradients = jax.tree.map(jnp.cos, params)
  update = jax.jit(tx.update)
  _, state = update(gradients, tx.init(params), params)
  return update(gradients, state, params)[0]


def rounding_of(case):
  """Of one step in float32: sums of six terms, the references' of up to 24.

  What has no reference of its own turns bases, as an SVD does for Conda.
  """
  return max(case.rounding or references_projected.TURNED, 1e-6)


def assert_same_matrices(actual, expected, rounding):
  """Up to the order of sums, which a batch may change."""

  def check(one, other):
    size = np.abs(other).max()
    assert size > 0
    np.testing.assert_allclose(one, other, rtol=0, atol=rounding * size)

  jax.tree.map(check, actual, expected)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Block:
  """Parameters that are callable, with an attribute called `value`."""

  value: object
  kernel: object
  bias: object

  def __call__(self, inputs):
    """Is not for parameters."""
    raise AssertionError("a tree was called")


class Network(equinox.Module):
  """Weights as Equinox lays them out: (out, in), (out, in, h, w)."""

  conv: equinox.nn.Conv2d
  layers: list
  norm: equinox.nn.LayerNorm
  activation: object

  def __init__(self):
    """Draws the weights."""
    keys = jax.random.split(jax.random.key(0), 2)
    # With one input, a matrix has its rows in one order in both layouts.
    self.conv = equinox.nn.Conv2d(1, 3, 2, key=keys[0])
    self.layers = [equinox.nn.Linear(6, 4, use_bias=False, key=keys[1])]
    self.norm = equinox.nn.LayerNorm(4)
    self.activation = jax.nn.relu

  def __call__(self, inputs):
    """Is not for parameters."""
    raise AssertionError("a tree was called")


def network_params():
  """What Equinox trains: a tree with None, and callable."""
  return equinox.filter(Network(), equinox.is_inexact_array)


def as_flax(tree):
  """The leaves of a network as Flax lays them out, by path."""
  return {
    path: jnp.moveaxis(leaf, (1, 0), (-2, -1))
    if path.endswith("weight") and leaf.ndim > 1
    else leaf
    for path, leaf in groups.leaves(tree)
  }


class TreeContract:
  """The contract; a subclass parametrizes `case`."""

  def test_none_is_no_leaf(self, case):
    """Structure is kept, and the program is that of the tree without."""
    params = with_none()
    text, structure = program(case.make(), params)
    assert structure == jax.tree.structure(params)
    assert text == program(case.make(), without_none(params))[0]
    described = optim.describe(case.name, params, **case.options)
    clean = optim.describe(case.name, without_none(params), **case.options)
    assert described == clean

  @pytest.mark.parametrize("option", ["mask", "dims"])
  def test_entries_where_there_is_none(self, case, option):
    if option not in case.parameters:
      pytest.skip("has no such option")
    params = with_none()
    if option == "mask":
      entries = map_with_none(lambda w: w is None or w.ndim != 1, params)
      entries["frozen"] = {"below": False}
      prefix = True
    else:
      entry = optim.MatrixDims()
      entries = map_with_none(
        lambda w: entry if w is None or w.ndim == 2 else None, params
      )
      entries["frozen"] = {"below": None}
      prefix = None

    def make(tree):
      return case.make(weight_decay=0.1, **{option: tree})

    text, structure = program(make(entries), params)
    assert structure == jax.tree.structure(params)
    kept = {
      key: {name: entries[key][name] for name in below}
      for key, below in without_none(params).items()
    }
    assert text == program(make(lambda _: kept), params)[0]
    make(dict.fromkeys(params, prefix)).init(params)
    with pytest.raises(ValueError, match=f"{option} has an entry.*'norm/gain'"):
      make(entries | {"norm": {"gain": prefix, "scale": prefix}}).init(params)

  def test_none_in_wrappers(self, case):
    params = with_none()
    tx = case.make()
    masked = jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    for wrapped in (
      optax.partition({True: tx, False: optax.sgd(0.1)}, masked),
      optim.partition_by_path([("mlp.*", optax.sgd(0.1)), (".*", tx)]),
      optim.normalize_and_project(
        optim.sign_constrained(optim.quantize_state(tx, min_size=1))
      ),
    ):
      state = jax.eval_shape(wrapped.init, params)
      updates, new = jax.eval_shape(wrapped.update, params, state, params)
      assert jax.tree.structure(updates) == jax.tree.structure(params)
      assert jax.tree.structure(new) == jax.tree.structure(state)

  def test_readings_are_handed_down(self, case):
    """Only the norm, which another transform moves, tells that q is stacked."""
    if "dims" not in case.parameters:
      pytest.skip("knows no matrices")
    params = stacks()
    del params["layers"]["o_proj"]
    expected, _ = program(case.make(dims=by_hand(params)), params)
    assert program(case.make(), params)[0] == expected
    described = optim.describe(case.name, params, **case.options)
    assert not any("assumed" in update for update in described.values())

  def test_readings_inside_other_transforms(self, case):
    if "dims" not in case.parameters:
      pytest.skip("knows no matrices")
    params = stacks()
    # Where the norms are hidden, nothing tells of it.
    del params["layers"]["mlp"]
    expected, _ = program(
      nested(case.make(dims=by_hand(params)), params), params
    )
    assert program(nested(case.make(), params), params)[0] == expected

  def test_what_is_assumed_is_said(self, case):
    if "dims" not in case.parameters:
      pytest.skip("knows no matrices")
    params = {"q_proj": normal(3, 6, 4), "norm": {"scale": normal(6)}}
    described = optim.describe(case.name, params, **case.options)
    assert described["q_proj"].endswith("assumed: in (0,), out (1, 2)")
    assert "assumed" not in described["norm/scale"]
    dims = {"q_proj": optim.MatrixDims(0, (1, 2)), "norm": None}
    options = {**case.options, "dims": dims}
    described = optim.describe(case.name, params, **options)
    assert "assumed" not in described["q_proj"]

  def test_a_callable_tree_is_not_called(self, case):
    params = Block(normal(3, 4), normal(4, 3), normal(3))
    trees = {
      "mask": Block(True, False, True),
      "dims": Block(optim.MatrixDims(1, 0), None, None),
    }
    trees = {k: tree for k, tree in trees.items() if k in case.parameters}
    # An option without a value may be none of this optimizer's.
    decay = {"weight_decay": 0.1} if trees else {}
    text, structure = program(case.make(**decay, **trees), params)
    assert structure == jax.tree.structure(params)
    functions = {key: lambda _, t=tree: t for key, tree in trees.items()}
    assert text == program(case.make(**decay, **functions), params)[0]
    described = optim.describe(case.name, params, **case.options)
    assert set(described) == {"value", "kernel", "bias"}

  def test_equinox_modules(self, case):
    """Trees with None that are callable, as what is trained and as options."""
    params = network_params()
    given = {}
    if "dims" in case.parameters:
      given["dims"] = optim.torch_dims
    text, structure = program(case.make(**given), params)
    assert structure == jax.tree.structure(params)
    given = {name: make(params) for name, make in given.items()}
    if "mask" in case.parameters:
      given["mask"] = case.parameters["mask"].default and optim.decay_mask(
        params
      )
    assert text == program(case.make(**given), params)[0]


class MatrixContract:
  """In numbers, for cases that have `dims`; these compile."""

  def test_a_stack_moves_as_each_matrix_alone(self, case, monkeypatch):
    draw = draws.normal

    def one_draw(path, shape, number=0, *, seed=0):
      """What is drawn does not depend on the leaf."""
      del path
      return jnp.broadcast_to(draw("", shape[1:], number, seed=seed), shape)

    monkeypatch.setattr(draws, "normal", one_draw)
    q, o = normal(2, 6, 4, seed=1), normal(2, 4, 6, seed=2)
    stacked = second_update(case.make(), {"q_proj": q, "o_proj": o})
    single = second_update(case.make(), {"q": [q[0], q[1]], "o": [o[0], o[1]]})
    actual = {"q": list(stacked["q_proj"]), "o": list(stacked["o_proj"])}
    assert_same_matrices(actual, single, rounding_of(case))

  def test_equinox_moves_as_flax(self, case):
    """Weights (out, in) with `torch_dims` as their transposes without."""
    params = network_params()
    in_torch = second_update(case.make(dims=optim.torch_dims), params)
    in_flax = second_update(case.make(), as_flax(params))
    assert jax.tree.structure(in_torch) == jax.tree.structure(params)
    assert_same_matrices(as_flax(in_torch), in_flax, rounding_of(case))
