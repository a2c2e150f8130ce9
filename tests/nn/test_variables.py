import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors
from normjax.nn import variables
from normjax.nn.norm_layer import NormLayer


class _Net(nnx.Module):
  def __init__(self, rngs):
    self.layers = nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(11)])
    self.norm = NormLayer("batch_norm", (2,))

  def __call__(self, x):
    for layer in self.layers:
      x = layer(x)
    return self.norm(x)


def _split(seed=0):
  return variables.split(_Net(nnx.Rngs(seed)))


def test_paths_are_strings_and_collections_apart():
  _, split = _split()
  assert set(split) == {"params", "stats", "grad_stats"}
  assert set(split["params"]["layers"]) == {str(i) for i in range(11)}
  assert split["params"]["layers"]["10"]["kernel"].shape == (2, 2)
  assert set(split["stats"]["norm"]) == {"mean", "var"}
  assert split["grad_stats"] == {}


def test_merge_undoes_split():
  structure, split = _split()
  x = jnp.arange(8.0).reshape(4, 2)
  again = variables.merge(structure, split)
  np.testing.assert_array_equal(again(x), _Net(nnx.Rngs(0))(x))
  # The call moved the merged module's statistics and nobody else's.
  np.testing.assert_array_equal(split["stats"]["norm"]["mean"], 0.0)
  moved = variables.split(again)[1]["stats"]["norm"]["mean"]
  assert np.any(moved != 0)


def test_structures_of_equal_modules_are_equal_and_hashable():
  first, second = _split(0)[0], _split(1)[0]
  abstract = variables.split(nnx.eval_shape(lambda: _Net(nnx.Rngs(0))))[0]
  assert first == second == abstract
  assert hash(first) == hash(abstract)


def test_statistics_come_out_of_a_traced_gradient():
  structure, split = _split()

  @jax.jit
  def gradient(params, x):
    def loss(params):
      model = variables.merge(structure, {**split, "params": params})
      return jnp.sum(model(x) ** 3), variables.split(model)[1]["stats"]

    return jax.grad(loss, has_aux=True)(params)

  gradients, stats = gradient(split["params"], jnp.arange(8.0).reshape(4, 2))
  assert jax.tree.structure(gradients) == jax.tree.structure(split["params"])
  assert np.any(stats["norm"]["mean"] != 0)


def test_a_seed_may_be_traced():
  init = jax.jit(lambda key: variables.split(_Net(nnx.Rngs(params=key)))[1])
  first, second = (init(jax.random.key(seed))["params"] for seed in (0, 1))

  def kernel(params):
    return params["layers"]["0"]["kernel"]

  assert np.any(kernel(first) != kernel(second))


class _Mixed(nnx.Module):
  """Variables of many kinds, one of them in two places."""

  def __init__(self, rngs):
    self.linear = nnx.Linear(2, 2, rngs=rngs)
    self.tied = self.linear.kernel
    self.norm = nnx.BatchNorm(2, rngs=rngs)
    self.drops = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])
    self.cache = nnx.Cache(jnp.zeros(2))
    self.seen = nnx.Variable(jnp.zeros((), bool), note="mine")
    self.factor = jnp.ones(2)

  def __call__(self, x):
    self.seen[...] = jnp.ones((), bool)
    self.factor = 2 * self.factor
    return self.drops[1](self.drops[0](self.norm(self.linear(x) * self.factor)))


def test_all_that_is_no_parameter_is_a_statistic():
  structure, split = variables.split(_Mixed(nnx.Rngs(0)))
  assert set(split["params"]) == {"linear", "norm"}
  assert set(split["stats"]) == {"norm", "cache", "seen", "factor"}
  again = variables.merge(structure, split)
  assert again.tied is again.linear.kernel
  assert isinstance(again.cache, nnx.Cache)
  assert again.seen.get_metadata()["note"] == "mine"
  again(jnp.ones((4, 2)))
  stats = variables.new_stats(structure, again, split["stats"])
  assert jax.tree.structure(stats) == jax.tree.structure(split["stats"])
  assert stats["seen"]
  np.testing.assert_array_equal(stats["factor"], [2.0, 2.0])


def test_the_key_drives_each_random_stream():
  structure, split = variables.split(_Mixed(nnx.Rngs(0)))

  def masks(key):
    model = variables.merge(structure, split, key)
    return [drop(jnp.ones(64)) for drop in model.drops]

  first, second = masks(jax.random.key(1))
  assert np.any(first != second)
  np.testing.assert_array_equal(first, masks(jax.random.key(1))[0])
  assert np.any(first != masks(jax.random.key(2))[0])


def _made(value, kind=nnx.Variable):
  module = nnx.Module()
  module.odd = kind(value)
  return module


@pytest.mark.parametrize(
  ("module", "message"),
  [
    (_made(jnp.zeros(2, int), nnx.Param), "parameter 'odd' is int32, which no"),
    (_made({"a": jnp.zeros(2)}), "variable 'odd' holds a dict; needed: an arr"),
    (
      _made(jax.random.key(0)),
      "variable 'odd' holds a random key; a model dra",
    ),
  ],
)
def test_a_variable_that_cannot_be_carried_is_named(module, message):
  with pytest.raises(errors.UserError, match=message):
    variables.split(module)


def _grow(model):
  model.more = nnx.Variable(jnp.zeros(2))


def _shrink(model):
  del model.cache


def _reshape(model):
  model.cache = nnx.Cache(jnp.zeros(3))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (_grow, "makes the variable 'more', a Variable; a variable is made where"),
    (_shrink, "removes the variable 'cache'; it must stay"),
    (_reshape, r"statistic 'cache' float32\[3\]; it was float32\[2\]"),
  ],
)
def test_a_call_that_changes_the_structure_is_said(change, message):
  structure, split = variables.split(_Mixed(nnx.Rngs(0)))
  model = variables.merge(structure, split)
  change(model)
  with pytest.raises(errors.UserError, match=message):
    variables.new_stats(structure, model, split["stats"])
