"""SCALE: which axes are normalized, and what has a momentum."""

import jax
import jax.numpy as jnp
import numpy as np

from normjax import build, configure, optim
from normjax.train import program
from tests import support


def tree():
  return {
    "embed": {"embedding": support.normal(7, 6)},
    "mlp": {"kernel": support.normal(6, 8), "bias": support.normal(8)},
    "head": {"kernel": support.normal(6, 7)},
  }


def rms(x, axis):
  return np.sqrt(np.mean(np.square(np.asarray(x)), axis=axis))


def test_columns_are_outputs():
  """Of kernels each output; of an embedding each feature, over all tokens."""
  tx = optim.scale(1.0)
  params = tree()
  updates, state = tx.update(tree(), tx.init(params), params)
  for path in (("embed", "embedding"), ("mlp", "kernel"), ("head", "kernel")):
    leaf = updates[path[0]][path[1]]
    np.testing.assert_allclose(rms(leaf, 0), 1, rtol=1e-6)
    assert not np.allclose(rms(leaf, 1), 1, rtol=0.01)
  # The vectors' Adam apart, the head's momentum is all there is.
  sizes = sorted(x.size for x in jax.tree.leaves(state) if x.size > 1)
  assert sizes == [8, 8, 42]


def test_only_the_head_remembers():
  tx = optim.scale(1.0, momentum=0.5)
  params, zeros = tree(), jax.tree.map(jnp.zeros_like, tree())
  _, state = tx.update(tree(), tx.init(params), params)
  updates, _ = tx.update(zeros, state, params)
  np.testing.assert_array_equal(updates["mlp"]["kernel"], 0)
  np.testing.assert_array_equal(updates["embed"]["embedding"], 0)
  np.testing.assert_allclose(rms(updates["head"]["kernel"], 0), 1, rtol=1e-6)
  for pattern, count in ((None, 0), (".*kernel", 2), (".*", 3)):
    made = optim.scale_by_columns(momentum_on=pattern)
    assert len(jax.tree.leaves(made.init(params))) == count


def test_a_tiny_column_is_not_blown_up():
  """Below eps it is divided by eps, as in the official code."""
  g = jnp.full((4, 2), 1e-10).at[:, 0].set(1.0)
  updates, _ = optim.scale(1.0).update(g, optim.scale(1.0).init(g), g)
  np.testing.assert_allclose(updates, -g / jnp.array([1.0, 1e-8]), rtol=1e-6)


def test_a_model_says_which_is_the_head():
  """Roles answer for a config, also where names would not."""
  config = configure.override(
    configure.load("configs/default.py"),
    support.DECODER | {"optimizer.name": "scale"},
  )
  _, initialize = program.recipe_and_initialize(config)
  state = jax.eval_shape(initialize, build.hyper(config))
  matrices = [
    x.shape for x in jax.tree.leaves(state.optimizer_state) if x.ndim > 1
  ]
  assert matrices == [state.params["head"]["kernel"].shape]


def test_torch_layouts():
  """(out, in), embeddings (vocab, d): transposed, the same steps."""
  params = {
    "embed": {"weight": support.normal(7, 6)},
    "mlp": {"weight": support.normal(8, 6)},
  }
  entries = optim.scale(1.0, dims=optim.torch_dims)
  updates, _ = entries.update(params, entries.init(params), params)
  np.testing.assert_allclose(rms(updates["embed"]["weight"], 0), 1, rtol=1e-6)
  np.testing.assert_allclose(rms(updates["mlp"]["weight"], 1), 1, rtol=1e-6)
