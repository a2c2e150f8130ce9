"""`train` of every model: flags, modes, and what `eval()` and `train()` say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import models, norms
from normjax.nn import variables as nn_variables
from tests.contracts import mode_contract, model_contract

# What may be drawn in each model.
RATES = {
  **dict.fromkeys(("llama", "gpt2", "vit", "mlp"), ("dropout_rate",)),
  **dict.fromkeys(
    ("nf_resnet", "cifar_nf_resnet", "nfnet"),
    ("dropout_rate", "stochastic_depth_rate"),
  ),
}


def _options(name, **options):
  """Batch norm where there are norms, and dropout where there is some."""
  norm = "identity" if name in model_contract.WITHOUT_NORM else "batch_norm"
  rates = dict.fromkeys(RATES.get(name, ()), 0.5)
  return name, {**rates, "norm": norm, **options}


def _make(name, **options):
  """A model and inputs for it."""
  name, options = _options(name, **options)
  model, inputs = model_contract.make(name, **options)
  return model, inputs[:2]


KEY = {"key": jax.random.key(0)}
CASES = {name: _options(name) for name in models.names()} | {
  # A loop over layers, and blocks computed again in the backward pass.
  "llama, scanned": _options("llama", scan_layers=True, remat=True),
  "resnet, v2": _options("cifar_resnet", version="v2"),
  "spiking, inhibited": _options(
    "spiking_mlp", norm="identity", dynamics="excitatory_inhibitory"
  ),
}


def _case(name, options):
  return mode_contract.Case(
    lambda: model_contract.make(name, **options)[0],
    model_contract.inputs(name)[:2],
    KEY if name in RATES else {},
  )


# Their classes are those of cifar_resnet and nf_resnet, their layers those of
# spiking_vgg.
SLOW = ("resnet", "cifar_nf_resnet", "sew_resnet")


@pytest.mark.parametrize(
  "case",
  [
    pytest.param(
      _case(*options), marks=pytest.mark.slow if name in SLOW else (), id=name
    )
    for name, options in CASES.items()
  ],
)
class TestModel(mode_contract.ModeContract):
  """The shared contract."""


def test_a_port_evaluates_as_it_was_trained():
  """After `eval()` a user's call is of one example, and moves nothing."""
  model, inputs = _make("mlp", dropout_rate=0.5)
  key = jax.random.key(0)
  for _ in range(3):
    model(inputs * 2 + 1, key=key)
  expected = model(inputs, train=False)
  model.eval()
  stats = nn_variables.split(model)[1]["stats"]
  np.testing.assert_allclose(model(inputs[:1]), expected[:1], atol=1e-6)
  jax.tree.map(
    np.testing.assert_array_equal, nn_variables.split(model)[1]["stats"], stats
  )


def test_one_site_may_be_switched_alone():
  """Dropout of one branch, in a model that evaluates."""
  model, tokens = _make("llama")
  model.eval()
  quiet = model(tokens, **KEY)
  np.testing.assert_array_equal(quiet, model(tokens))
  model.layers[0].attention.deterministic = False
  drawn = model(tokens, **KEY)
  assert np.any(drawn != quiet)
  model.set_attributes(nnx.Module, deterministic=True)
  np.testing.assert_array_equal(model(tokens, **KEY), quiet)


def test_adaptation_moves_statistics_without_dropout():
  """What a stream of unlabelled batches needs; then a blend of both."""
  model, inputs = _make("mlp")
  adapt = norms.Mode(statistics="batch", update=True)
  np.testing.assert_array_equal(
    model(inputs, train=adapt, **KEY), model(inputs, train=adapt)
  )
  stats = nn_variables.split(model)[1]["stats"]
  assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(stats))
  logits = {
    weight: model(
      inputs, train=norms.Mode(statistics="blended", batch_weight=weight)
    )
    for weight in (0.0, 0.5)
  }
  np.testing.assert_array_equal(logits[0.0], model(inputs, train=False))
  assert jnp.any(logits[0.5] != logits[0.0])
