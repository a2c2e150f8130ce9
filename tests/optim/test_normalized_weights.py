"""Weights of unit vectors along the features of a transformer's stream."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from normjax import build, errors, models, optim
from normjax.nn import model_roles
from normjax.nn import variables as nn_variables
from normjax.optim import groups, normalized_weights
from tests import support

# Of one entry of a unit vector, and of the sum of up to 32 squares.
EXACT = 2.0**-24 * 8
# Features 8, heads 2 of size 4, hidden 32: no two axes that matter are alike
# but the square kernels', which are told by what they do.
TINY = {
  "num_layers": 1,
  "num_heads": 2,
  "model_dim": 8,
  "hidden_dim": 32,
  "vocab_size": 11,
}
# As `normalize_matrices` of NVIDIA/ngpt: the axis that has n_embd features.
FEATURES = {
  "embedding/embedding": 1,
  "head/kernel": 0,
  "layers/0/attention/query/kernel": 0,
  "layers/0/attention/key/kernel": 0,
  "layers/0/attention/value/kernel": 0,
  "layers/0/attention/out/kernel": 2,
  "layers/0/feed_forward/gate/kernel": 0,
  "layers/0/feed_forward/up/kernel": 0,
  "layers/0/feed_forward/down/kernel": 1,
}


def _step(tx, params):
  rng = np.random.default_rng(0)
  gradients = jax.tree.map(
    lambda w: jnp.asarray(rng.normal(size=w.shape), w.dtype), params
  )
  updates, _ = tx.update(gradients, tx.init(params), params)
  return optax.apply_updates(params, updates)


@pytest.mark.parametrize("by_roles", [True, False])
def test_the_matrices_of_a_model(by_roles):
  """By what its modules say, as a run has it, and by its names alone."""
  model = nnx.eval_shape(
    lambda: models.make(
      "llama", **TINY, placement="normalized_stream", norm="l2_norm"
    )
  )
  params = nn_variables.split(model)[1]["params"]
  roles = model_roles.of(model) if by_roles else None
  config = support.tiny({"optimizer.name": "ngpt_adam"})
  said = dict(build.describe_updates(config, params, roles))
  for path, axis in FEATURES.items():
    # The last axis of a kernel that writes; of a table the rows are read.
    writes = axis and "embedding" not in path
    side = "outputs" if writes else "inputs"
    assert said.pop(path) == f"adam, unit {side}"
  # What is left are the rates of the branches.
  assert set(said.values()) == {"adam"}
  assert all(path.endswith("_rate") for path in said)


def test_the_own_start_of_the_stream_is_normalized():
  """As the official code normalizes before the first step."""
  model = models.make(
    "llama",
    **TINY,
    placement="normalized_stream",
    norm="l2_norm",
    init="placement",
  )
  flat = dict(groups.leaves(nn_variables.split(model)[1]))
  for path, axis in FEATURES.items():
    if "layers" in path:
      lengths = np.linalg.norm(np.float64(flat[f"params/{path}"]), axis=axis)
      np.testing.assert_allclose(lengths, 1, rtol=EXACT, err_msg=path)


def test_stacked_layers_and_zeros():
  """Layers of a scan are normalized each; a vector of zeros stays."""
  params = {"up": {"kernel": jnp.ones((3, 4, 5)).at[1, :, 2].set(0)}}
  tx = optim.normalized_weights(optax.scale(-0.0))
  kernel = _step(tx, params)["up"]["kernel"]
  # A step of zeros leaves the leaf alone.
  np.testing.assert_array_equal(kernel, params["up"]["kernel"])
  pull = optim.normalized_weights(
    optax.stateless(lambda g, w: jax.tree.map(lambda w: 0.5 * w, w))
  )
  lengths = jnp.linalg.norm(_step(pull, params)["up"]["kernel"], axis=1)
  want = np.ones((3, 5))
  want[1, 2] = 0
  np.testing.assert_allclose(lengths, want, rtol=EXACT)


def test_describe_says_which_side():
  shapes = {
    "up": {"kernel": jnp.ones((2, 3))},
    "down": {"kernel": jnp.ones((3, 2))},
  }
  assert optim.describe("ngpt_adam", shapes) == {
    "down/kernel": "adam, unit outputs",
    "up/kernel": "adam, unit inputs",
  }


def test_bad_options():
  with pytest.raises(errors.UserError, match=r"writers='\('"):
    optim.normalized_weights(optax.sgd(0.1), writers="(")
  tx = optim.normalized_weights(optax.sgd(0.1))
  with pytest.raises(ValueError, match="params"):
    tx.update({}, tx.init({}))


def test_example():
  function = optim.normalized_weights
  finder = doctest.DocTestFinder(recurse=False)
  (example,) = finder.find(function, "", module=normalized_weights, globs={})
  assert doctest.DocTestRunner().run(example).failed == 0
