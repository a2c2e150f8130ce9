"""Ranks of a run's activations, against a forward pass by hand."""

import jax
import numpy as np
import pytest
from flax import nnx

from normjax import build, configure, errors, spectra
from normjax.nn import variables as nn_variables
from normjax.train import evaluate, preview, program

SOFT, TAIL = "ffn_soft_rank(log=True)", "ffn_hard_rank(bucket='tail')"


def _config(**overrides):
  return configure.override(
    configure.load("configs/default.py"),
    {
      "model.hidden_dim": 8,
      "model.model_dim": 16,
      "model.num_layers": 2,
      "model.activation": "squared_relu",
      "evaluate.batch_size": 8,
      "evaluate.num_batches": 3,
      "evaluate.metrics": ("ffn_hard_rank", SOFT, TAIL),
      **{key.replace("__", "."): value for key, value in overrides.items()},
    },
  )


def _by_hand(model, dataset, bucket=None):
  """(hard, soft) by layer, of activations that layers are asked for alone."""
  inputs = np.concatenate(
    [batch["inputs"] for batch in dataset.evaluation_batches(8, 3)]
  )
  captured = nnx.capture(lambda m: m(inputs, train=False), nnx.Intermediate)
  layers = nnx.to_pure_dict(captured(model)[1])["layers"]
  keep = np.ones(inputs.size, bool)
  if bucket is not None:
    of_token = spectra.bucket_of_token(np.bincount(dataset.train))
    keep = of_token[inputs.reshape(-1)] == bucket
  ranks = []
  for layer in layers.values():
    (pre,) = layer["feed_forward"]["pre"]
    h = np.maximum(np.asarray(pre, np.float64), 0).reshape(-1, 8)[keep] ** 2
    p = np.linalg.eigvalsh(np.cov(h, rowvar=False))
    p /= p.sum()
    ranks.append((1 / (p**2).sum(), np.exp(-(p * np.log(p)).sum())))
  return np.array(ranks)


def test_an_evaluation_measures_what_a_forward_pass_shows():
  """On eight devices, of layers that are scanned where nobody looks inside."""
  config = _config(model__scan_layers=True)
  compiled = program.traced(config)
  hyper = build.hyper(config)
  dataset = build.evaluation_dataset(config)
  state = compiled.initialize(hyper, dataset.train_batch(0, 0, 16))
  found = evaluate.evaluate(
    compiled, state, dataset, hyper, batch_size=8, num_batches=3
  ).means
  variables = jax.device_get(state.variables())
  model = nn_variables.merge(compiled.recipe.graphdef, variables)
  whole = _by_hand(model, dataset)
  # Float32 activations, summed over 1,536 tokens.
  np.testing.assert_allclose(
    (found["ffn_hard_rank"], np.exp(found[SOFT])),
    np.median(whole, axis=0),
    rtol=1e-4,
  )
  tail = _by_hand(model, dataset, bucket=2)
  assert found[TAIL] == pytest.approx(np.median(tail, axis=0)[0], rel=1e-4)
  assert found[TAIL] != pytest.approx(found["ffn_hard_rank"], rel=1e-3)


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (
      {"model__hidden_dim": 128},
      r"'ffn_hard_rank' needs 2,560 examples or more; evaluate.num_batches=3 of"
      r" evaluate.batch_size=8 have 1,536 that count",
    ),
    (
      {"evaluate__metrics": ("ffn_hard_rank(layer=2)",)},
      r"layer=2; allowed: None, 0 to 1",
    ),
    (
      {"evaluate__metrics": ("ffn_hard_rank(site='in')",)},
      r"site='in'; allowed: 'pre', 'post'",
    ),
    (
      {"evaluate__metrics": ("ffn_soft_rank(bucket='tails')",)},
      r"bucket='tails'",
    ),
  ],
)
def test_what_has_no_rank_is_refused_before_training(change, said):
  with pytest.raises(errors.UserError, match=said):
    preview.preview(_config(**change))


def test_images_have_no_tokens():
  config = configure.load("configs/default.py")
  config.model = configure.component("model", "mlp")
  config.data = configure.component("data", "digits")
  config.norm = configure.component("norm", "layer_norm")
  config.evaluate.metrics = ("ffn_hard_rank",)
  with pytest.raises(errors.UserError, match="data 'digits' gives images"):
    preview.preview(config)
