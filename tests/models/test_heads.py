"""Heads in the models that have the option."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import build, configure, models
from normjax.nn import calling, model_roles
from normjax.nn import variables as nn_variables
from normjax.nn.output import as_output
from normjax.train import passes
from tests import support
from tests.contracts import model_contract

MODELS = ("mlp", "cifar_resnet", "resnet", "vit")
HEADS = (
  "normalized_softmax(embedding_dim=3)",
  "equiangular(embedding_dim=6, tau=0.4)",
  "prototype",
)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_it(name, head):
  options = {"num_classes": 10, **model_contract.SIZES[name]}

  @nnx.eval_shape
  def made():
    return models.make(name, head=head, **options)

  def call(variables, inputs):
    model = nn_variables.merge(structure, variables)
    return as_output(calling.call(model, inputs, train=False))

  structure, variables = nn_variables.split(made)
  output = jax.eval_shape(call, variables, model_contract.inputs(name))
  assert output.logits.shape == (8, 10)
  assert output.logits.dtype == jnp.float32
  assert output.features["embedding"].shape[0] == 8
  found = model_roles.of(made)
  head_roles = [r for path, r in found.params() if path.startswith("head/")]
  assert {role.layer for role in head_roles} == {"output"}


def test_linear_is_what_it_was():
  """In no resolved config, and Flax's own layer."""
  config = support.tiny_mlp()
  assert "head" not in configure.to_dict(config)["model"]
  given = configure.override(config, {"model.head": "prototype"})
  assert configure.run_id(given) != configure.run_id(config)
  back = configure.override(given, {"model.head": "linear"})
  assert configure.run_id(back) == configure.run_id(config)
  assert build.program_key(back) == build.program_key(config)
  model = models.make("mlp", input_shape=(3,))
  assert type(model.head) is nnx.Linear
  assert isinstance(model(jnp.ones((2, 3))), jax.Array)


def test_the_mean_over_micro_batches_leaves_what_nothing_moves():
  """A third of a float, three times, may be another float."""
  fixed = np.asarray(support.normal(1000), np.float32)
  thirds = np.stack([fixed] * 3)
  assert np.any(np.asarray(jnp.mean(thirds, axis=0)) != fixed)
  mean = passes.over_micro_batches(jnp.asarray(thirds))
  np.testing.assert_array_equal(mean, fixed)
  moved = thirds * np.array([[1], [2], [3]], np.float32)
  np.testing.assert_array_equal(
    passes.over_micro_batches(jnp.asarray(moved)), jnp.mean(moved, axis=0)
  )
