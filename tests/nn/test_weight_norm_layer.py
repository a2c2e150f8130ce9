"""Layers whose kernels have a norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import models
from normjax.nn import variables
from normjax.nn.conv import Conv, convolve
from normjax.nn.conv_norm import ConvNorm
from normjax.nn.dense import Dense
from normjax.norms import weights
from normjax.optim import masks
from normjax.train.passes import over_micro_batches
from tests import support

IMAGES = support.normal(2, 5, 5, 4)


def paths(tree):
  return {
    "/".join(key.key for key in path): leaf
    for path, leaf in jax.tree.leaves_with_path(tree)
  }


@pytest.mark.parametrize("name", weights.names())
def test_a_convolution_meets_the_normalized_kernel(name):
  conv = Conv(4, 6, groups=2, weight_norm=name, rngs=nnx.Rngs(0))
  norm, kernel = weights.make(name), conv.kernel[...]
  _, before = variables.split(conv)
  held = {
    collection: before[collection].get("weight_norm", {})
    for collection in ("params", "stats")
  }
  for train in (False, True):
    expected, stats = norm.apply(held, kernel, train=train)
    np.testing.assert_array_equal(
      conv(IMAGES, train=train), convolve(IMAGES, expected, groups=2)
    )
  _, after = variables.split(conv)
  jax.tree.map(np.testing.assert_array_equal, after["params"], before["params"])
  jax.tree.map(
    np.testing.assert_array_equal,
    after["stats"],
    {"weight_norm": dict(stats)} if stats else {},
  )


def test_the_kernel_starts_as_without():
  """Whatever the norm draws, it draws after the kernel."""
  for make in (
    lambda **options: Conv(4, 6, **options),
    lambda **options: Dense(4, 6, **options),
  ):
    plain = make(rngs=nnx.Rngs(0)).kernel[...]
    normed = make(weight_norm="spectral_norm", rngs=nnx.Rngs(0)).kernel[...]
    np.testing.assert_array_equal(plain, normed)


def test_dense_is_linear_without_a_norm():
  x = support.normal(3, 4, seed=1)
  for dtype in (jnp.float32, jnp.bfloat16):
    linear = nnx.Linear(4, 6, dtype=dtype, rngs=nnx.Rngs(0))
    dense = Dense(4, 6, dtype=dtype, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(dense(x), linear(x))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dense_multiplies_by_the_normalized_kernel(dtype):
  x = support.normal(3, 4, seed=1).astype(dtype)
  dense = Dense(4, 6, dtype=dtype, weight_norm="weight_norm", rngs=nnx.Rngs(0))
  dense.bias[...] = jnp.arange(6.0)
  gain = dense.weight_norm.gain
  gain[...] = 2 * gain[...]
  expected = x @ (2 * dense.kernel[...]).astype(dtype) + dense.bias[...]
  y = dense(x)
  assert y.dtype == dtype
  # A kernel that is a rounding off, sums of four, and the sum itself.
  unit = float(jnp.finfo(dtype).eps) / 2
  np.testing.assert_allclose(
    np.float64(y), np.float64(expected), rtol=0, atol=8 * unit * 16
  )


def test_parameters_are_known_by_path():
  """The gain is a vector of a norm: no decay, no matrix method."""
  conv = ConvNorm(
    4, 6, weight_norm="scaled_weight_standardization", rngs=nnx.Rngs(0)
  )
  params = variables.split(conv)[1]["params"]
  assert set(paths(params)) == {
    "conv/kernel",
    "conv/weight_norm/gain",
    "norm/norm/scale",
    "norm/norm/bias",
  }
  decays = paths(masks.decay_mask(params))
  assert {path for path, decay in decays.items() if decay} == {"conv/kernel"}


NETWORKS = {
  "cifar_resnet": ({"depth": 8, "width": 2, "norm": "batch_norm"}, (4, 4, 1)),
  "mlp": ({"num_layers": 2, "hidden_dim": 4}, (6,)),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_every_hidden_kernel_of_a_network_has_it(network):
  """Heads are as they were; a training step turns every u."""
  options, shape = NETWORKS[network]
  model = models.make(
    network,
    **options,
    num_classes=3,
    input_shape=shape,
    weight_norm="spectral_norm",
  )
  _, held = variables.split(model)
  kernels = {path for path in paths(held["params"]) if path.endswith("/kernel")}
  before = {
    path: leaf
    for path, leaf in paths(held["stats"]).items()
    if "weight_norm" in path
  }
  assert set(before) == {
    f"{path.removesuffix('kernel')}weight_norm/{name}"
    for path in kernels - {"head/kernel"}
    for name in ("u", "v")
  }
  assert model(jnp.ones((4, *shape)), train=True).shape == (4, 3)
  after = paths(variables.split(model)[1]["stats"])
  # That v is the one of the step before until the kernel moves.
  for path in (path for path in before if path.endswith("/u")):
    assert np.abs(after[path] - before[path]).max() > 1e-6


def test_gradients_reach_every_parameter():
  model = models.make(
    "mlp",
    num_classes=3,
    input_shape=(6,),
    num_layers=1,
    hidden_dim=4,
    weight_norm="weight_norm",
  )
  structure, held = variables.split(model)
  x = support.normal(4, 6)

  def loss(params):
    model = variables.merge(structure, {**held, "params": params})
    return jnp.sum(jnp.square(model(x)))

  # The norm that follows takes the gain's, and the bias is between.
  gradients = paths(jax.grad(loss)(held["params"]))
  for path, leaf in gradients.items():
    assert np.isfinite(leaf).all(), path
    assert np.abs(leaf).max() > 0, path


def test_micro_batches_keep_u_and_v_of_length_one():
  """Their mean over micro-batches of one kernel is that of each."""
  norm, kernel = weights.make("spectral_norm"), jnp.ones((4, 3)).at[0, 1].set(3)
  _, stats = norm.apply(norm.init(kernel), kernel)
  stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), dict(stats))
  for name, leaf in jax.tree.map(over_micro_batches, stacked).items():
    np.testing.assert_allclose(leaf, stats[name], rtol=4 * 2**-24)


def test_weight_standardization_does_not_see_the_scale_of_a_kernel():
  """The network is the same for any; so is that of batch norm after it."""
  conv = ConvNorm(
    4, 6, weight_norm="weight_standardization(eps=1e-12)", rngs=nnx.Rngs(0)
  )
  before = conv(IMAGES)
  conv.conv.kernel[...] = 64 * conv.conv.kernel[...] + 1
  # Numbers near 60 over their std of 15: w' is off by 8 u at most, and so are
  # the 36 products with an |x| below 4.
  np.testing.assert_allclose(
    conv(IMAGES), before, rtol=0, atol=36 * 4 * 8 * 2**-24
  )
