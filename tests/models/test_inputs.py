"""Inputs that a model cannot take are named in one line."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors, models
from normjax.nn import attention, feed_forward
from tests.contracts import model_contract

DECODERS = tuple(n for n in models.names() if "tokens" in models.get(n).reads)
IMAGES = tuple(n for n in models.names() if models.get(n).reads == {"images"})
# Whose classifier reads places, not their mean.
FIXED_SIZE = ("vit", "spiking_vgg")
TOKENS = np.random.default_rng(0).integers(0, 23, (2, 6)).astype(np.int32)


def _rates():
  """(model, option) of everything that a model draws in training."""
  for name in models.names():
    factories = (models.get(name).__init__,)
    for factory in factories:
      for option in inspect.signature(factory).parameters:
        if option.endswith("_rate"):
          yield name, option


def _called(name, inputs=None, options=None, **call):
  """Traces a call, which neither makes nor compiles anything."""

  def run():
    given = {**model_contract.SIZES.get(name, {}), **(options or {})}
    return models.make(name, **given)(inputs, **call)

  return nnx.eval_shape(run)


def _inputs(name):
  kind = sorted(models.get(name).reads)[0]
  return model_contract._INPUTS[kind](np.random.default_rng(0))


def test_rates_are_found():
  assert {name for name, _ in _rates()} >= {"llama", "vit", "mlp", "nfnet"}


@pytest.mark.parametrize(("name", "option"), list(_rates()))
def test_what_is_drawn_in_training_needs_a_key(name, option):
  rates = {other: 0.0 for model, other in _rates() if model == name}
  options = {**rates, option: 0.25}
  message = (
    rf"^{option}=0.25 in training \(train=True\) without a key: pass"
    rf" key=jax.random.key\(...\), or turn it off with train=False or"
    r" model.eval\(\), or with"
    rf" {option}=0 where the model is made\."
  )
  inputs = _inputs(name)
  with pytest.raises(errors.UserError, match=message):
    _called(name, inputs, options)
  for call in (
    {"key": jax.random.key(0)},
    {"train": False},
  ):
    assert _called(name, inputs, options, **call).shape[0] == len(inputs)
  assert _called(name, inputs, rates).shape[0] == len(inputs)


@pytest.mark.parametrize(
  "make",
  [
    lambda rngs: attention.Attention(8, 2, dropout_rate=0.1, rngs=rngs),
    lambda rngs: feed_forward.FeedForward(8, 9, dropout_rate=0.1, rngs=rngs),
  ],
  ids=["attention", "feed_forward"],
)
def test_so_do_branches_alone(make):
  x_btd = jnp.ones((1, 3, 8))
  with pytest.raises(errors.UserError, match=r"dropout_rate=0.1 in training"):
    nnx.eval_shape(lambda: make(nnx.Rngs(0))(x_btd))
  assert nnx.eval_shape(lambda: make(nnx.Rngs(0))(x_btd, train=False)).ndim == 3


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, np.ndarray.tolist])
@pytest.mark.parametrize(("token", "span"), [(23, "0 to 23"), (-1, "-1 to 22")])
def test_tokens_outside_of_the_vocabulary(name, kind, token, span):
  tokens = np.resize(np.arange(23, dtype=np.int32), (2, 23))
  tokens[1, 3] = token
  with pytest.raises(
    errors.UserError,
    match=rf"^tokens go from {span}; with vocab_size=23 they must be 0 to 22\.",
  ):
    _called(name, kind(tokens))
  tokens[1, 3] = 22
  assert _called(name, kind(tokens)).shape == (2, 23, 23)


@pytest.mark.parametrize("name", DECODERS)
def test_other_tokens(name):
  with pytest.raises(errors.UserError, match="tokens must be integers; got fl"):
    _called(name, TOKENS.astype(np.float32))
  # What is not known while tracing is not looked at, but for the dtype.
  traced = jax.eval_shape(
    lambda tokens: _called(name, tokens),
    jax.ShapeDtypeStruct((2, 6), np.int32),
  )
  assert traced.shape == (2, 6, 23)


def test_more_tokens_than_positions():
  with pytest.raises(errors.UserError, match="6 tokens are more than max_leng"):
    _called("gpt2", TOKENS, {"max_length": 5})


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_another_shape(name):
  """Of other channels or axes; of another size where that matters."""
  images = _inputs(name)
  for wrong in (images[..., :2], images[0], images[..., None]):
    with pytest.raises(errors.UserError, match=r"shape \(\d+, 8"):
      _called(name, wrong, train=False)
  other = images[:, :, :4]
  if name in FIXED_SIZE:
    with pytest.raises(errors.UserError, match=r"input_shape=\(8, 8, 3\)"):
      _called(name, other, train=False)
  else:
    assert _called(name, other, train=False).shape == (8, 10)


@pytest.mark.parametrize("name", ["mlp", "spiking_mlp"])
def test_features_of_another_number(name):
  message = r"shape \(8, 11\) are no batch of .* input_shape=\(12,\)"
  with pytest.raises(errors.UserError, match=message):
    _called(name, _inputs(name)[:, :11], train=False)
  # The number of values counts.
  reshaped = _inputs(name).reshape(8, 2, 6)
  assert _called(name, reshaped, train=False).shape == (8, 10)


def test_one_sequence_alone_is_no_batch():
  model = models.make("llama", num_layers=1, vocab_size=8)
  with pytest.raises(errors.UserError, match=r"shape \(4,\) must be \(batch"):
    model(np.arange(4), train=False)


@pytest.mark.parametrize("name", DECODERS)
def test_sequences_have_tokens_and_masks_may_be_lists(name):
  with pytest.raises(errors.UserError, match="one token or more"):
    _called(name, TOKENS[:, :0], train=False)
  mask = [[False] + [True] * 5, [True] * 6]
  assert _called(name, TOKENS, train=False, mask_bt=mask).shape == (2, 6, 23)
