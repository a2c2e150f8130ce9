"""`train` of every layer: flags, modes, and what `eval()` and `train()` say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import norms
from normjax.nn import conv_norm
from normjax.nn.attention import Attention
from normjax.nn.conv import Conv
from normjax.nn.dense import Dense
from normjax.nn.excitatory_inhibitory import ExcitatoryInhibitory
from normjax.nn.feed_forward import FeedForward
from normjax.nn.linen import LinenNorm
from normjax.nn.norm_layer import NormLayer
from normjax.nn.stable_embedding import StableEmbedding
from normjax.nn.synapses import DenseNorm
from normjax.nn.weight_norm_layer import WeightNormLayer
from tests import support
from tests.contracts import mode_contract
from tests.norms import cases

FEATURES = jnp.ones((4, 3, 8))
IMAGES = jnp.ones((2, 4, 4, 8))
KEY = {"key": jax.random.key(0)}
KERNEL = jnp.ones((8, 4))


def _conv_norm(mode):
  return lambda rngs: conv_norm.ConvNorm(
    8, 4, mode=mode, weight_norm="spectral_norm", rngs=rngs
  )


def _norm_layer(norm, rngs):
  return NormLayer(norm, (8,), rngs=rngs)


# (rngs) -> module; what it reads; what else it is called with.
LAYERS = {
  "conv": (lambda rngs: Conv(8, 4, rngs=rngs), IMAGES, {}),
  "spectral conv": (
    lambda rngs: Conv(8, 4, weight_norm="spectral_norm", rngs=rngs),
    IMAGES,
    {},
  ),
  "dense": (lambda rngs: Dense(8, 4, rngs=rngs), FEATURES, {}),
  "spectral dense": (
    lambda rngs: Dense(8, 4, weight_norm="spectral_norm", rngs=rngs),
    FEATURES,
    {},
  ),
  "weight norm": (
    lambda rngs: WeightNormLayer("spectral_norm", KERNEL, rngs=rngs),
    KERNEL,
    {},
  ),
  **{
    f"conv norm, {mode}": (_conv_norm(mode), IMAGES, {})
    for mode in conv_norm.CONV_NORM_MODES
  },
  "dense norm": (
    lambda rngs: DenseNorm(
      8,
      4,
      norm=norms.make("batch_norm"),
      kernel_init=nnx.initializers.ones,
      rngs=rngs,
    ),
    FEATURES,
    {},
  ),
  "inhibition": (
    lambda rngs: ExcitatoryInhibitory(8, 4, rngs=rngs),
    FEATURES[0],
    {},
  ),
  "embedding": (
    lambda rngs: StableEmbedding(5, 8, norm="batch_norm", rngs=rngs),
    jnp.zeros((2, 3), jnp.int32),
    {},
  ),
  "attention": (
    lambda rngs: Attention(
      8,
      2,
      causal=False,
      dropout_rate=0.5,
      query_key_norm="batch_norm",
      inner_norm="batch_norm",
      rngs=rngs,
    ),
    FEATURES,
    KEY,
  ),
  "feed-forward": (
    lambda rngs: FeedForward(
      8, 4, dropout_rate=0.5, inner_norm="batch_norm", rngs=rngs
    ),
    FEATURES,
    KEY,
  ),
  # Those with statistics of the backward pass have a test of their own.
  **{
    norm.name: (
      functools.partial(_norm_layer, norm),
      cases.images(norm, FEATURES),
      {},
    )
    for norm in map(cases.make, norms.names())
    if not jax.eval_shape(lambda norm=norm: norm.init((8,)))["grad_stats"]
  },
}


@pytest.mark.parametrize(
  "case",
  [
    mode_contract.Case(lambda make=make: make(nnx.Rngs(0)), inputs, call)
    for make, inputs, call in LAYERS.values()
  ],
  ids=LAYERS,
)
class TestLayer(mode_contract.ModeContract):
  """The shared contract."""


@pytest.mark.parametrize("name", ["power_norm", "unified_norm"])
def test_statistics_of_the_backward_pass(name):
  """They move in training alone; what x gets does not depend on it."""
  layer = NormLayer(name, (8,))
  x = support.normal(4, 3, 8)
  graphdef, state = nnx.split(layer)
  modes = (norms.TRAIN, norms.Mode(statistics="batch"), norms.EVALUATE)

  def loss(state, x, train):
    layer = nnx.merge(graphdef, state, copy=True)
    return jnp.sum(jnp.sin(layer(x, train=train)))

  (trained, dx), (still, same), (evaluated, _) = (
    jax.grad(loss, argnums=(0, 1), allow_int=True)(state, x, mode)
    for mode in modes
  )
  np.testing.assert_array_equal(dx, same)
  np.testing.assert_array_equal(trained["scale"][...], still["scale"][...])
  assert np.any(trained["ema_gz"][...] != layer.ema_gz[...])
  for kept in (still, evaluated):
    np.testing.assert_array_equal(kept["ema_gz"][...], layer.ema_gz[...])


def test_linen_takes_modes_as_well():
  """None is training there: Linen has no `eval()`."""
  layer = LinenNorm("batch_norm")
  x = support.normal(4, 8)
  made = layer.init(jax.random.key(0), x)

  def apply(train):
    return layer.apply(made, x, train=train, mutable=["batch_stats"])

  y, stats = apply(True)
  np.testing.assert_array_equal(apply(None)[0], y)
  kept, still = apply(norms.Mode(statistics="batch"))
  np.testing.assert_array_equal(kept, y)
  np.testing.assert_array_equal(
    still["batch_stats"]["mean"], made["batch_stats"]["mean"]
  )
  assert np.any(stats["batch_stats"]["mean"] != made["batch_stats"]["mean"])


def test_views_are_switched_as_modules_are():
  """By `nnx.view`, which leaves the module as it is."""
  layer = FeedForward(
    8, 4, dropout_rate=0.5, inner_norm="batch_norm", rngs=nnx.Rngs(0)
  )
  viewed = nnx.view(layer, deterministic=True, use_running_average=True)
  x = support.normal(4, 3, 8)
  np.testing.assert_array_equal(viewed(x), layer(x, train=False))
  assert not layer.deterministic
  assert not layer.inner_norm.use_running_average
