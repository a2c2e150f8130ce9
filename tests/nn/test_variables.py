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


def test_another_kind_of_variable_is_named():
  class Odd(nnx.Module):
    def __init__(self):
      self.cache = nnx.Cache(jnp.zeros(2))

  with pytest.raises(errors.UserError, match="variable 'cache' is a Cache"):
    variables.split(Odd())
