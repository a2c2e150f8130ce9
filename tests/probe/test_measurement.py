"""All probes together: what is left out, padding, bad batches."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors, models, probe
from normjax.probe import network
from normjax.record import probe_file, schema
from tests import support

TOKENS = np.arange(3 * 6).reshape(3, 6) % 11


def _llama():
  return models.make(
    "llama", vocab_size=11, num_layers=1, model_dim=8, num_heads=2,
    hidden_dim=12, rngs=nnx.Rngs(0),
  )  # fmt: skip


def _batch(**changes):
  weight = np.ones(TOKENS.shape, np.float32)
  weight[1, 4:] = 0
  weight[2] = 0
  return {
    "inputs": TOKENS,
    "targets": (TOKENS + 1) % 11,
    "weight": weight,
    **changes,
  }


@pytest.fixture(scope="module")
def measured():
  return probe.measure(_llama(), _batch())


def test_a_decoder_gives_all(measured):
  assert measured["left_out"] == {}
  assert measured["angles"]["tokens"] == "last"
  assert measured["loss"] == measured["logit_lens"]["loss"][-1]
  assert set(measured["spectra"]) == {
    *(f"layers/0/attention/{n}/kernel" for n in ("query", "key", "value")),
    "layers/0/attention/out/kernel",
    *(f"layers/0/feed_forward/{n}/kernel" for n in ("gate", "up", "down")),
  }
  text = json.dumps({"of": {}, **measured}, allow_nan=False)
  assert schema.problem(json.loads(text), probe_file.FIELDS) == ""


def test_padding_counts_in_nothing(measured):
  batch = _batch()
  batch["inputs"] = batch["inputs"].copy()
  batch["inputs"][1, 4:] = 7
  batch["inputs"][2] = 3
  again = probe.measure(_llama(), batch)
  # But in the queries of attention, which the model does not mask.
  mine, theirs = ({**m, "attention_sinks": None} for m in (again, measured))
  assert mine == theirs


def test_the_loss_is_that_of_the_logits(measured):
  batch = _batch()
  logits = np.asarray(_llama()(TOKENS, train=False), np.float64)
  total, count = 0.0, 0
  for b, t in zip(*np.nonzero(batch["weight"]), strict=True):
    z = logits[b, t]
    total += np.log(np.exp(z).sum()) - z[batch["targets"][b, t]]
    count += 1
  np.testing.assert_allclose(measured["loss"], total / count, rtol=1e-5)


def test_a_network_of_images_says_what_it_has_not():
  model = models.make(
    "cifar_resnet", depth=8, width=4, input_shape=(8, 8, 1), num_classes=3,
    rngs=nnx.Rngs(0),
  )  # fmt: skip
  images = support.normal(2, 8, 8, 1, seed=0)
  found = probe.measure(
    model, {"inputs": images, "targets": np.array([0, 2], np.int32)}
  )
  assert found["blocks"] == ["layers/0", "layers/1", "layers/2"]
  assert found["left_out"] == {
    "attention_sinks": "no block gives weights of an attention",
    "angles": "across layers/1, layers/2, which change the stream's shape",
    "skipping": "of layers/1, layers/2, which change the stream's shape",
    "logit_lens": "before layers/2: the model's end takes another shape",
  }
  assert [x is None for x in found["skipping"]["loss"]] == [False, True, True]
  lens = found["logit_lens"]["loss"]
  assert lens == [None, None, None, found["loss"]]
  assert found["angles"]["tokens"] == "all"
  sizes = [len(p) for p in found["streams"]["variance"]["by_position"]]
  assert sizes == [64, 64, 16, 4]


def test_no_stream_and_no_targets():
  model = models.make("mlp", input_shape=(4,), rngs=nnx.Rngs(0))
  found = probe.measure(model, {"inputs": support.normal(2, 4, seed=0)})
  assert set(found) == {"spectra", "left_out"}
  assert "MLP has no stream" in found["left_out"]["logit_lens"]
  found = probe.measure(_llama(), {"inputs": TOKENS})
  assert "loss" not in found
  assert found["left_out"] == dict.fromkeys(
    ("skipping", "logit_lens"),
    "the batch has no targets, so that there is no loss",
  )


@pytest.mark.parametrize(
  ("batch", "said"),
  [
    ({"targets": TOKENS}, "the batch has targets; needed: inputs"),
    (_batch(weight=np.zeros(TOKENS.shape)), "all padding"),
    (_batch(targets=TOKENS + 5), "targets from 5 to 15; the model has logits"),
  ],
)
def test_bad_batches(batch, said):
  with pytest.raises(errors.UserError, match=said):
    probe.measure(_llama(), batch)


def test_spectra_are_numpy_s():
  model = models.make("mlp", input_shape=(40,), rngs=nnx.Rngs(0))
  found = probe.weight_spectra(model, most=5)["layers/0/kernel"]
  matrix = np.asarray(model.layers[0].kernel[...], np.float64)
  s = np.linalg.svd(matrix, compute_uv=False)
  # Of float32, relative to the largest.
  atol = 40 * 2**-23 * s[0]
  assert found["shape"] == list(matrix.shape)
  assert found["numbers"][0] == 0
  assert found["numbers"][-1] == len(s) - 1
  np.testing.assert_allclose(
    found["singular_values"], s[found["numbers"]], atol=atol
  )
  p = s / s.sum()
  np.testing.assert_allclose(
    found["effective_rank"], np.exp(-(p * np.log(p)).sum()), rtol=1e-4
  )
  np.testing.assert_allclose(
    found["stable_rank"], (s**2).sum() / s[0] ** 2, rtol=1e-4
  )


def test_nothing_is_sown_without_a_probe():
  """A model that is not probed has no weights of attention computed."""
  text = str(_trace(_llama()))
  taken = network.Network(_llama(), TOKENS)
  assert len(taken) == 1
  assert str(_trace(_llama())) == text


def _trace(model):
  import jax

  return jax.make_jaxpr(lambda x: model(x, train=False))(jnp.asarray(TOKENS))
