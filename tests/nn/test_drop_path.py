"""Stochastic depth: timm's drop path, and the branches that it drops."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import configure, errors, models
from normjax.models import transformer
from normjax.nn import dropout, placement, residual_branch
from tests import support

KEY = jax.random.key(3)
SMALL = {"num_heads": 2, "model_dim": 16}


@pytest.mark.parametrize("traced", [False, True])
def test_examples_are_dropped_whole_and_the_rest_is_rescaled(traced):
  x = np.random.default_rng(0).normal(size=(400, 3, 2)).astype(np.float32)

  def drop(x, rate):
    return dropout.drop_examples(x, rate, KEY, rescaled=True)

  y = np.asarray(jax.jit(drop)(x, 0.25) if traced else drop(x, 0.25))
  kept = np.any(y != 0, axis=(1, 2))
  want = x.astype(np.float64) / 0.75 * kept[:, None, None]
  np.testing.assert_allclose(y, want, rtol=1e-6)
  # Of 400 draws, 300 are expected and 35 are four standard deviations.
  assert 265 < kept.sum() < 335


def test_bfloat16_stays():
  x = jnp.ones((4, 2), jnp.bfloat16)
  for rate in (0.5, jnp.float32(0.5)):
    y = dropout.drop_examples(x, rate, KEY, rescaled=True)
    assert y.dtype == jnp.bfloat16
    assert set(np.unique(y.astype(np.float32))) <= {0.0, 2.0}


def test_rates_grow_from_zero():
  """As torch.linspace(0, rate, n) of timm."""
  np.testing.assert_allclose(
    dropout.drop_path_rates("vit", 0.4, 5), np.linspace(0, 0.4, 5)
  )
  assert dropout.drop_path_rates("vit", 0.0, 1) == [0.0]


def _one_of(got, candidates):
  """Which candidate each example is; none: an assertion fails."""
  found = []
  for n, example in enumerate(got):
    errors_of = [np.abs(c[n] - example).max() for c in candidates]
    assert min(errors_of) < 1e-4 * np.abs(example).max()
    found.append(int(np.argmin(errors_of)))
  return found


def _streams(model, inputs, key):
  """The stream after each block, in training."""

  def call(model):
    return model(inputs, train=True, key=key)

  _, captured = nnx.capture(call, nnx.Intermediate)(model)
  layers = nnx.to_pure_dict(captured)["layers"]
  return [np.asarray(layers[n]["stream"][0]) for n in sorted(layers)]


def test_a_transformers_branches():
  """Each of the last block's is left out, or is twice as large."""
  model = models.make("vit", input_shape=(8, 8, 1), drop_path_rate=0.5, **SMALL)
  images = support.normal(24, 8, 8, 1)
  before, after = _streams(model, images, KEY)
  block = model.layers[1]

  def branch(name, x_btd):
    normalized = getattr(block, f"{name}_input_norm")(x_btd, train=True)
    return np.asarray(getattr(block, name)(normalized, train=True))

  attention = branch("attention", before)
  candidates = []
  for first, second in itertools.product((0, 2), (0, 2)):
    middle = before + first * attention
    candidates.append(middle + second * branch("feed_forward", middle))
  # Both of them, each by itself.
  assert set(_one_of(after, candidates)) == {0, 1, 2, 3}
  # In evaluation nothing is drawn, and the first block is never dropped.
  plain = models.make("vit", input_shape=(8, 8, 1), **SMALL)
  np.testing.assert_array_equal(_streams(plain, images, KEY)[0], before)
  np.testing.assert_array_equal(
    plain(images, train=False), model(images, train=False, key=KEY)
  )


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_resnets_branches(version):
  model = models.make(
    "cifar_resnet",
    input_shape=(8, 8, 1),
    depth=8,
    width=4,
    version=version,
    drop_path_rate=0.5,
  )
  images = support.normal(16, 8, 8, 1)
  _, before, after = _streams(model, images, KEY)
  block = model.layers[2]
  h, shortcut = before, before
  if version == "v1":
    for conv in block.convs:
      h = conv(h, train=True)
    shortcut, end = block.shortcut(before), lambda x: np.maximum(x, 0)
  else:
    h = block.norm(h, train=True)
    shortcut, end = block.shortcut(h), lambda x: x
    h = block.convs[1](
      block.norms[0](block.convs[0](h), train=True), train=True
    )
  h, shortcut = np.asarray(h), np.asarray(shortcut)
  candidates = [end(shortcut), end(shortcut + 2 * h)]
  assert set(_one_of(after, candidates)) == {0, 1}


@pytest.mark.parametrize("remat", [False, True])
def test_scanned_layers_drop_the_same(remat):
  tokens = jnp.arange(48).reshape(6, 8)
  options = {
    "num_layers": 3,
    "drop_path_rate": 0.5,
    "dropout_rate": 0.1,
    **SMALL,
  }
  unrolled = transformer.Llama(64, **options, rngs=nnx.Rngs(0))
  scanned = transformer.Llama(
    64, **options, scan_layers=True, remat=remat, rngs=nnx.Rngs(0)
  )
  got, want = (
    jax.jit(lambda key, model=model: model(tokens, train=True, key=key))(KEY)
    for model in (scanned, unrolled)
  )
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
  # Another key drops others.
  other = unrolled(tokens, train=True, key=jax.random.key(4))
  assert not np.allclose(want, other, atol=1e-3)


def test_it_leaves_dropout_alone():
  """With a rate too small to drop anything, the same noise is drawn."""
  tokens = jnp.arange(16).reshape(2, 8)
  without, with_it = (
    transformer.Llama(
      64, dropout_rate=0.3, drop_path_rate=rate, **SMALL, rngs=nnx.Rngs(0)
    )(tokens, train=True, key=KEY)
    for rate in (0.0, 1e-7)
  )
  np.testing.assert_allclose(with_it, without, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", placement.TABLE.names())
def test_what_is_dropped_adds_nothing(name):
  """Under every placement the stream goes on as if the branch gave nothing.

  After the output norm: one that follows would make a zero its offset.
  """
  structure = placement.resolve(name).layer(2, 2).feed_forward

  def shift(x):
    return x / 2 + 1

  options = {"structure": structure, "drop": jnp.zeros_like}
  got = residual_branch.residual(
    jnp.asarray(4.0), lambda x: 3 * x, dict.fromkeys(structure.slots, shift),
    **options,
  )  # fmt: skip
  base = shift(4.0) if structure.residual == "input" else 4.0
  assert float(got) == (shift(base) if "stream" in structure.slots else base)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("vit", {"drop_path_rate": 1.0}, r"drop_path_rate=1\.0"),
    ("cifar_resnet", {"drop_path_rate": -0.1}, r"drop_path_rate=-0\.1"),
    ("vit", {"num_layers": 1, "drop_path_rate": 0.1}, "a single block"),
  ],
)
def test_bad_rates(name, options, message):
  with pytest.raises(errors.UserError, match=message):
    models.make(name, **options)


@pytest.mark.parametrize("name", ["vit", "cifar_resnet"])
def test_a_key_is_needed(name):
  options = {"input_shape": (8, 8, 1), "drop_path_rate": 0.1}

  def call(x):
    return models.make(name, **options)(x, train=True)

  with pytest.raises(errors.UserError, match=r"drop_path_rate=0\.1 in train"):
    jax.eval_shape(call, np.zeros((2, 8, 8, 1)))


@pytest.mark.parametrize(
  "name", ["gpt2", "llama", "vit", "resnet", "cifar_resnet"]
)
def test_a_config_has_it(name):
  assert configure.component("model", name).drop_path_rate == 0.0
