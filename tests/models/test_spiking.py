"""Spiking models: time, pooling, initialization on data, and bad options."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors, models
from normjax.models import spiking
from normjax.nn import variables as nn_variables

INHIBITED = {"dynamics": "excitatory_inhibitory", "norm": "identity"}
SMALL = {"depth": 2, "width": 20, "input_shape": (12,)}


def _mlp(**options):
  return models.make("spiking_mlp", **{**SMALL, **INHIBITED, **options})


def _inputs(shape=(16, 12)):
  return jnp.asarray(np.random.default_rng(0).random(shape), jnp.float32)


def _params(model):
  return nn_variables.split(model)[1]["params"]


def _initialized(make, x, seed):
  """A model that was initialized on x; made and compiled as one."""
  structure = nn_variables.split(nnx.eval_shape(make))[0]

  @jax.jit
  def variables(x, key):
    model = make()
    model.initialize_on(x, key)
    return nn_variables.split(model)[1]

  return nn_variables.merge(structure, variables(x, jax.random.key(seed)))


def test_equals_a_transcription():
  """Two layers without a norm: float64 potentials, the mean over steps."""
  model = models.make(
    "spiking_mlp",
    depth=2,
    width=20,
    input_shape=(12,),
    norm="identity",
    kernel_init="he_normal",
  )
  params = jax.tree.map(lambda leaf: np.asarray(leaf, float), _params(model))
  hidden = params["layers"]["0"]["incoming"]["dense"]
  x = np.asarray(_inputs(), float)
  current = x @ hidden["kernel"] + hidden["bias"]
  v, logits, nearest = 0.0, 0.0, np.inf
  for _ in range(4):
    v = v / 2 + current
    nearest = min(nearest, np.abs(v - 1).min())
    s = (v >= 1).astype(float)
    v = v - s
    head = params["readout"]["dense"]
    logits = logits + (s @ head["kernel"] + head["bias"]) / 4
  # No potential is within rounding of the threshold: 12 terms of size 1.
  assert nearest > 2 * 12 * 2**-24
  np.testing.assert_allclose(model(_inputs()), logits, atol=20 * 2**-24 * 8)


def test_batch_norm_sees_all_steps_as_one_batch():
  model = models.make("spiking_mlp", **SMALL, norm="batch_norm")
  model(_inputs(), train=True)
  norm = model.layers[0].incoming.norm.norm
  dense = model.layers[0].incoming.dense
  current = np.asarray(_inputs() @ dense.kernel[...], np.float64)
  shown = np.tile(current, (4, 1))
  # A twelfth of a mean of 64 numbers of size 1, momentum 0.9.
  np.testing.assert_allclose(norm.mean[...], 0.1 * shown.mean(0), atol=1e-6)
  np.testing.assert_allclose(
    norm.var[...], 0.9 + 0.1 * shown.var(0, ddof=1), atol=1e-6
  )


@pytest.mark.parametrize("depth", spiking.MLP_PLANS)
def test_widths_of_the_official_plan(depth):
  model = nnx.eval_shape(lambda: models.make("spiking_mlp", depth=depth))
  widths = [layer.incoming.dense.kernel.shape[1] for layer in model.layers] + [
    10
  ]
  assert len(widths) == depth
  assert set(widths) <= {500, 300, 100, 10}
  assert all(a >= b for a, b in itertools.pairwise(widths))


@pytest.mark.parametrize(
  ("depth", "convolutions"), [(8, 5), (11, 8), (16, 13), (19, 16)]
)
def test_vgg_pools_down_to_one_place(depth, convolutions):
  model = nnx.eval_shape(lambda: models.make("spiking_vgg", depth=depth))
  assert len(model.layers) == convolutions
  assert sum(layer.pool for layer in model.layers) == 5
  assert model.readout.dense.kernel.shape == (512, 10)
  small = nnx.eval_shape(
    lambda: models.make("spiking_vgg", depth=depth, input_shape=(8, 8, 1))
  )
  assert sum(layer.pool for layer in small.layers) == 3


def test_sew_resnet_adds_spikes():
  x = jnp.arange(2 * 3 * 5 * 5 * 2.0).reshape(2, 3, 5, 5, 2)
  halved = spiking._halved(x)
  want = np.asarray(x)[:, :, :4, :4].reshape(2, 3, 2, 2, 2, 2, 2)
  np.testing.assert_array_equal(halved, want.mean(axis=(3, 5)))
  model = nnx.eval_shape(lambda: models.make("sew_resnet"))
  # Eight blocks, of which the first of three stages change their shape.
  assert len(model.layers) == 9
  assert sum(len(block.shortcut) for block in list(model.layers)[1:]) == 3


def test_layers_are_initialized_each_on_what_the_one_before_gives():
  def make():
    return _mlp(depth=4)

  x = _inputs()
  model = _initialized(make, x, 3)
  after = _params(model)
  x_t = jnp.broadcast_to(x, (4, *x.shape))
  for layer in model.layers:
    flat = np.asarray(x_t).reshape(64, -1)
    mean, square = flat.mean(), (flat**2).mean()
    variance = flat.var(axis=0, ddof=1).mean()
    gain = np.sqrt((square + variance) / flat.shape[1]) / mean
    # A dozen roundings of sums of 64 x 20 numbers.
    np.testing.assert_allclose(layer.incoming.gain_i[...], gain, rtol=1e-5)
    x_t = layer(x_t, train=False)
  again, other = (_params(_initialized(make, x, seed)) for seed in (3, 4))
  jax.tree.map(np.testing.assert_array_equal, again, after)
  same = jax.tree.map(np.array_equal, other["readout"], again["readout"])
  assert not same["kernel_ee"]


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("spiking_mlp", SMALL),
    pytest.param(
      "spiking_vgg",
      {"depth": 8, "width": 4, "input_shape": (8, 8, 1), "num_steps": 2},
      marks=pytest.mark.slow,
    ),
    pytest.param(
      "sew_resnet",
      {"depth": 10, "width": 4, "input_shape": (8, 8, 1), "num_steps": 2},
      marks=pytest.mark.slow,
    ),
  ],
)
def test_every_weight_of_an_inhibited_network_is_trained(name, options):
  x = _inputs((16, *options["input_shape"]))
  model = _initialized(lambda: models.make(name, **options, **INHIBITED), x, 1)
  assert model.non_negative_inputs
  structure, variables = nn_variables.split(model)

  @jax.jit
  def gradient(params, x):
    def loss(params):
      held = {**variables, "params": params}
      return jnp.mean((nn_variables.merge(structure, held)(x) - 1) ** 2)

    return jax.grad(loss)(params)

  for leaf in jax.tree.leaves(gradient(variables["params"], x)):
    assert np.isfinite(leaf).all()
    assert np.abs(leaf).max() > 0


def test_plain_layers_are_left_alone_by_data():
  model = models.make("spiking_mlp", **SMALL, norm="batch_norm")
  assert not model.non_negative_inputs
  before = nn_variables.split(model)[1]
  model.initialize_on(_inputs(), jax.random.key(0))
  jax.tree.map(
    np.testing.assert_array_equal, nn_variables.split(model)[1], before
  )


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"depth": 5}, "depth=5; allowed: 2, 4, 6, 8, 12, 16"),
    ({"width": 21}, "width=21 must be a multiple of 5"),
    ({"num_steps": 0}, "num_steps=0; allowed: an int >= 1"),
    ({"dynamics": "inhibited"}, "dynamics='inhibited'; allowed"),
    ({"kernel_init": "he_norm"}, "'he_norm'; allowed: .* Did you mean"),
    ({"neuron": {"taus": 2.0}}, "an option of neuron='taus'; allowed"),
    ({"neuron": {"tau": 0.5}}, "tau=0.5 must be above 1"),
    (
      {"inhibition": {"ration": 4}},
      "of inhibition='ration'; allowed",
    ),
    ({"norm": "rms_norm"}, "norm='rms_norm': dynamics='exc.* 'identity'"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    _mlp(**options)


def test_images_are_asked_for_where_they_are_read():
  for name in ("spiking_vgg", "sew_resnet"):
    with pytest.raises(errors.UserError, match=r"must be \(height, width"):
      models.make(name, input_shape=(12,))
