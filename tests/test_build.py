"""Optimizers that are told what each parameter is, in place of its name."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from normjax import build, configure, models, optim
from normjax.nn import model_roles
from normjax.nn import variables as nn_variables
from normjax.optim import groups
from tests.contracts import model_contract

# Methods whose sources have AdamW move the layer that reads the data.
INNER = ("muon", "normuon")


@functools.cache
def known(name):
  """(roles, shapes of the parameters) of a small model."""
  model = nnx.eval_shape(
    lambda: models.make(name, **model_contract.SIZES[name])
  )
  return model_roles.of(model), nn_variables.split(model)[1]["params"]


def config_of(optimizer, **options):
  overrides = {f"optimizer.{key}": value for key, value in options.items()}
  return configure.override(
    configure.load("configs/default.py"),
    {"optimizer.name": optimizer, **overrides},
  )


def state_of(config, params, found=None):
  tx = build.optimizer(config, roles=found)
  return jax.eval_shape(tx.init, params)


@pytest.mark.parametrize("model", ["llama", "cifar_resnet"])
@pytest.mark.parametrize("name", optim.names())
def test_an_optimizer_does_by_roles_what_it_does_by_names(name, model):
  """The same state and the same routes; a checkpoint from before fits."""
  found, params = known(model)
  config = config_of(name)
  routes = build.describe_updates(config, params, found)
  by_name = build.describe_updates(config, params)
  differ = {path for path in by_name if routes[path] != by_name[path]}
  if name in INNER and model == "cifar_resnet":
    assert differ == {"stem/conv/kernel"}
    assert by_name["stem/conv/kernel"] == name
    assert routes["stem/conv/kernel"] == "adamw (fallback)"
  else:
    assert not differ
    assert state_of(config, params, found) == state_of(config, params)


def test_the_update_is_the_same_program():
  found, params = known("mlp")
  config = config_of("adamp", weight_decay=0.1)

  def program(roles):
    tx = build.optimizer(config, roles=roles)
    state = jax.eval_shape(tx.init, params)
    return str(jax.make_jaxpr(tx.update)(params, state, params))

  assert program(found) == program(None)


def test_what_is_shown_is_what_moves():
  """The routes say which leaves have Muon's momentum alone."""
  found, params = known("cifar_resnet")
  config = config_of("muon")
  state = state_of(config, params, found)
  second_moments = {
    path.partition("nu/")[2]
    for path, _ in groups.leaves(state)
    if "nu/" in path
  }
  routes = build.describe_updates(config, params, found)
  assert second_moments == {
    path for path, route in routes.items() if route == "adamw (fallback)"
  }
  assert "stem/conv/kernel" in second_moments


@pytest.mark.parametrize("mask", [None, "default"])
def test_the_config_is_before_the_roles(mask):
  """A mask of None decays everything, gains too."""
  found, params = known("mlp")
  config = config_of("sgd", learning_rate=1.0, weight_decay=0.5)
  with config.unlocked():
    config.optimizer.mask = mask
  tx = build.optimizer(config, roles=found)
  ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), params)
  zeros = jax.tree.map(np.zeros_like, ones)
  updates, _ = tx.update(zeros, tx.init(ones), ones)
  decayed = {path for path, leaf in groups.leaves(updates) if leaf.any()}
  assert decayed == {
    path for path, role in found.params() if mask is None or role.decays
  }
