"""A model taken apart computes what it computes whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import models, probe
from normjax.nn import given
from normjax.nn import output as nn_output
from normjax.nn import variables as nn_variables
from tests import support
from tests.contracts import model_contract as contract

TOKENS = np.arange(2 * 6).reshape(2, 6) % 11
# Their layers add to nothing, or to spikes.
_NO_STREAM = {"mlp", "spiking_mlp", "spiking_vgg", "sew_resnet"}
TINY = {"vocab_size": 11, "model_dim": 8, "num_heads": 2, "hidden_dim": 12}


def _model(name="llama", **options):
  return models.make(name, **TINY, **options, rngs=nnx.Rngs(3))


def _sown(model, inputs):
  """The streams that the model itself sows, and its logits."""
  logits, sown = nnx.capture(
    lambda model: model(inputs, train=False), nnx.Intermediate
  )(model)
  layers = nnx.to_pure_dict(sown)["layers"]
  return logits, [layers[i]["stream"][0] for i in range(len(model.layers))]


@pytest.mark.parametrize(
  "options",
  [
    {"num_layers": 3, "scan_layers": True},
    {"num_layers": 2, "placement": "mix", "remat": True},
  ],
)
def test_streams_are_the_model_s_own(options):
  model = _model(**options)
  before = jax.tree.leaves(nn_variables.split(model)[1])
  network = probe.Network(model, TOKENS)
  streams, masses = network.run()
  logits, sown = _sown(model, TOKENS)
  assert len(network) == options["num_layers"] == len(streams) - 1
  np.testing.assert_array_equal(
    streams[0], model.embedding.embedding[...][TOKENS]
  )
  for found, wanted in zip(streams[1:], sown, strict=True):
    # Compiled by block, and here not at all: a few roundings of float32.
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
  end = network.end(streams[-1]).logits
  np.testing.assert_allclose(end, logits, rtol=1e-5, atol=1e-6)
  assert [mass.shape for mass in masses] == [(2,)] * len(network)
  after = jax.tree.leaves(nn_variables.split(model)[1])
  assert all(map(np.array_equal, before, after))


def test_the_mass_on_the_first_token():
  model = _model("gpt2", num_layers=1, max_length=6)
  x = np.asarray(model.embedding.embedding[...], np.float64)[TOKENS]
  x = x + np.asarray(model.position_embedding[...], np.float64)
  block = model.layers[0]
  mean = x.mean(-1, keepdims=True)
  h = (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
  q, k = (
    np.einsum("btd,dhk->bthk", h, np.asarray(layer.kernel[...], np.float64))
    for layer in (block.attention.query, block.attention.key)
  )
  masses = np.zeros(2)
  for b in range(2):
    for head in range(2):
      for t in range(6):
        scores = [q[b, t, head] @ k[b, s, head] / 2 for s in range(t + 1)]
        weights = np.exp(scores) / np.exp(scores).sum()
        masses[head] += weights[0] / 12
  found = probe.Network(model, TOKENS).run().masses[0]
  np.testing.assert_allclose(found, masses, rtol=1e-5)


def test_skipping_a_block_is_the_model_without_it():
  whole = _model(num_layers=2)
  short = _model(num_layers=1)
  structure, own = nn_variables.split(short)
  taken = nn_variables.split(whole)[1]["params"]
  kept = {**taken, "layers": {"0": taken["layers"]["0"]}}
  short = nn_variables.merge(structure, {**own, "params": kept})
  network = probe.Network(whole, TOKENS)
  streams = network.run().streams

  def loss(output):
    return jnp.mean(output.logits[..., 3])

  wanted = float(jnp.mean(short(TOKENS, train=False)[..., 3]))
  (_, without_last) = probe.losses_without(network, streams, loss)
  np.testing.assert_allclose(without_last, wanted, rtol=1e-5, atol=1e-7)
  # The lens at depth 1 is the same network.
  lens = probe.logit_lens(network, streams, loss)
  np.testing.assert_allclose(lens.loss[1], wanted, rtol=1e-5, atol=1e-7)
  assert lens.divergence[2] == 0 < lens.divergence[0]


def test_the_lens_is_the_final_norm_and_the_head():
  model = _model(num_layers=1)
  network = probe.Network(model, TOKENS)
  x = np.asarray(network.first, np.float64)
  wanted = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
  wanted = wanted @ np.asarray(model.head.kernel[...], np.float64)
  found = network.end(network.first).logits
  # 8 products of float32 each.
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


class _Twice(nnx.Module):
  """Calls its block twice."""

  def __init__(self):
    self.block = _Sows()

  def __call__(self, x):
    return self.block(self.block(x))


class _Sows(nnx.Module):
  def __call__(self, x):
    self.sow(nnx.Intermediate, "stream", x, capture_noop=True)
    return x


class _Own(nnx.Module):
  """A model of one's own: its blocks lie where they like."""

  def __init__(self):
    self.inner = _Sows()

  def __call__(self, x):
    return 2 * self.inner(x + 1)


def test_models_of_one_s_own():
  network = probe.Network(_Own(), jnp.ones((1, 2, 4)))
  assert network.paths == (("inner",),)
  assert float(network.end(network.first).logits[0, 0, 0]) == 4
  with pytest.raises(probe.NoStreamError, match="none of its modules sows"):
    probe.Network(_model_without_stream(), jnp.ones((1, 4)))
  with pytest.raises(ValueError, match="not called once each"):
    probe.Network(_Twice(), jnp.ones((1, 2, 4)))


def _model_without_stream():
  return models.make("mlp", input_shape=(4,), rngs=nnx.Rngs(0))


def test_norms_are_given_the_domains_of_their_batch():
  model = models.make(
    "cifar_resnet", depth=8, width=4, input_shape=(8, 8, 1), num_classes=3,
    norm="dsbn(num_domains=2)", rngs=nnx.Rngs(0),
  )  # fmt: skip
  for path, variable in nnx.to_flat_state(nnx.state(model)):
    if path[-1] == "mean":  # (domains, channels)
      variable[...] = variable[...] + jnp.asarray([[0.0], [0.5]])
  images = support.normal(2, 8, 8, 1)
  # What is compiled is shared: the second may not see the first one's.
  found = []
  for domain in (np.array([0, 0]), np.array([0, 1])):
    with given.of_batch({"domain": domain}):
      wanted = model(images, train=False)
      network = probe.Network(model, images)
    found.append(network.end(network.run().streams[-1]).logits)
    np.testing.assert_allclose(found[-1], wanted, rtol=1e-5, atol=1e-5)
  assert not np.allclose(found[0][1], found[1][1], rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(models.names()) - _NO_STREAM))
def test_every_model_with_a_stream(name):
  """Taken apart, each is what it is whole."""
  model, inputs = contract.make(name)
  network = probe.Network(model, inputs)
  found = network.end(network.run().streams[-1]).logits
  wanted = nn_output.as_output(model(inputs, train=False)).logits
  scale = float(jnp.max(jnp.abs(wanted)))
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(_NO_STREAM))
def test_the_others_say_so(name):
  with pytest.raises(probe.NoStreamError):
    probe.Network(*contract.make(name))
