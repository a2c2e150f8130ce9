"""Models whose norms are folded for good."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import convert, errors, models
from normjax.nn import variables as nn_variables
from tests import support
from tests.contracts import model_contract

X = support.normal(8, 8, 8, 3)


def trained(**options):
  """A tiny ResNet whose statistics and gains have moved."""
  model = models.make(
    "cifar_resnet", **model_contract.SIZES["cifar_resnet"], **options
  )
  structure, variables = nn_variables.split(model)
  params = model_contract.moved_off(variables["params"], 0.1)
  model = nn_variables.merge(structure, {**variables, "params": params})
  model(X * 2 + 1)
  return model


@pytest.mark.parametrize("mode", ["train", "eval", "tune"])
def test_logits_are_those_of_evaluation(mode):
  model = trained(conv_norm_mode=mode, shortcut="project")
  before = nn_variables.split(model)[1]
  deployed = convert.deploy(model)
  want = model(X, train=False)
  # Eight layers of sums of up to 144 products of order 1.
  atol = 8 * 144 * 2**-24 * np.abs(want).max()
  for train in (True, False):
    np.testing.assert_allclose(deployed(X, train=train), want, atol=atol)
  jax.tree.map(
    np.testing.assert_array_equal, nn_variables.split(model)[1], before
  )


def test_what_is_left_is_a_kernel_and_a_bias_each():
  variables = nn_variables.split(convert.deploy(trained()))[1]
  assert variables["stats"] == {}
  for site in (variables["params"]["stem"],):
    assert {k: set(v) for k, v in site.items()} == {"conv": {"kernel", "bias"}}
  assert all(
    leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables["params"])
  )


def test_norms_that_cannot_be_folded_are_named():
  with pytest.raises(
    errors.UserError, match=r"at evaluation: .*convs/0 \(evonorm_s0\), stem"
  ):
    convert.deploy(
      models.make(
        "cifar_resnet", depth=8, width=4, norm="evonorm_s0(num_groups=2)"
      )
    )
  with pytest.raises(errors.UserError, match="MLP holds none"):
    convert.deploy(models.make("mlp"))
