"""Modes of `ConvNorm`: what they compute, keep and leave alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors, models
from normjax.nn import saved_residuals
from normjax.nn import variables as nn_variables
from normjax.nn.conv import convolve
from normjax.nn.conv_norm import CONV_NORM_MODES, ConvNorm
from tests import support

X = support.normal(4, 6, 6, 3)


def make(mode, inputs=3, outputs=5, **options):
  """With statistics and gains that are not those of the start."""
  site = ConvNorm(inputs, outputs, mode=mode, rngs=nnx.Rngs(0), **options)
  keys = jax.random.split(jax.random.key(1), 4)
  layer = site.norm.norm
  for key, name in zip(keys, ("scale", "bias", "mean", "var"), strict=True):
    if hasattr(layer, name):
      getattr(layer, name)[...] = jax.random.uniform(
        key, (outputs,), minval=0.5, maxval=2.0
      )
  return site


def gradients(site, x):
  """Of the parameters and x, and the new statistics."""
  structure, variables = nn_variables.split(site)

  def loss(params, x):
    module = nn_variables.merge(structure, {**variables, "params": params})
    y = module(x, train=True)
    stats = nn_variables.split(module)[1]["stats"]
    return jnp.sum(jnp.cos(jnp.arange(y.size).reshape(y.shape)) * y), stats

  return jax.grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], x)


@pytest.mark.parametrize(
  "options",
  [
    {"stride": 2},
    {"groups": 3, "outputs": 6, "activation": "gelu"},
    {"weight_norm": "weight_standardization", "activation": None},
    {"norm": "batch_norm(virtual_batch_size=2)"},
  ],
  ids=["strided", "depthwise", "weight norm", "ghost batches"],
)
def test_tune_is_eval(options):
  results = {mode: make(mode, **options)(X) for mode in ("eval", "tune")}
  slopes = {mode: gradients(make(mode, **options), X) for mode in results}
  # Sums of 27 products, then some roundings; the gradients are sums of 144 x
  # 27 such, none of which grows as large as the root of their number. The
  # kernel's gradient goes through a weight norm once more.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=0, atol=256 * 2**-24 * max(1.0, np.abs(b).max())
    ),
    (results["tune"], slopes["tune"]),
    (results["eval"], slopes["eval"]),
  )


@pytest.mark.parametrize("mode", CONV_NORM_MODES)
def test_statistics_move_in_mode_train_only(mode):
  site = make(mode)
  before = nn_variables.split(site)[1]["stats"]
  site(X, train=True)
  after = nn_variables.split(site)[1]["stats"]
  moved = jax.tree.leaves(
    jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
  )
  assert moved == [mode == "train"] * 2
  # In evaluation all modes are one.
  np.testing.assert_allclose(
    make(mode)(X, train=False),
    make("train")(X, train=False),
    rtol=0,
    atol=64 * 2**-24 * 8,
  )


def test_bfloat16_rounds_a_kernel_once():
  """Folded in float32: c times the kernel is rounded, not each of them."""
  site = make("tune", dtype=jnp.bfloat16, activation=None)
  kernel, bias = site.folded()
  assert kernel.dtype == bias.dtype == jnp.float32
  want = convolve(X.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
  want += bias.astype(jnp.bfloat16)
  assert want.dtype == jnp.bfloat16
  np.testing.assert_array_equal(site(X), want)
  layer = site.norm.norm
  c = layer.scale[...] / jnp.sqrt(layer.var[...] + 1e-5)
  twice = (site.conv.kernel[...].astype(jnp.bfloat16)) * c.astype(jnp.bfloat16)
  assert np.any(twice != kernel.astype(jnp.bfloat16))


def kept(site, x):
  """Shapes and dtypes of what the backward pass keeps, but parameters."""
  structure, variables = nn_variables.split(site)
  _, pull = jax.vjp(
    lambda params, x: nn_variables.merge(
      structure, {**variables, "params": params}
    )(x),
    variables["params"],
    x,
  )
  return sorted(
    (leaf.shape, str(leaf.dtype))
    for leaf in jax.tree.leaves(pull)
    if leaf.ndim == 4 and leaf.shape[0] == x.shape[0]
  )


def test_tune_keeps_its_input_alone():
  x, y = ((4, 6, 6, 3), "float32"), ((4, 6, 6, 5), "float32")
  assert kept(make("tune", activation=None), X) == [x]
  # A ReLU keeps its own output, which is the next convolution's input.
  assert kept(make("tune"), X) == [x, y]
  assert kept(make("eval", activation=None), X) == [x, y]
  assert kept(make("eval"), X) == [x, y, y]


class Stack(nnx.Module):
  """Like layers, one after the other."""

  def __init__(self, mode, depth):
    """Makes them."""
    self.layers = nnx.List([make(mode, 4, 4) for _ in range(depth)])

  def __call__(self, x):
    """Applies all."""
    for layer in self.layers:
      x = layer(x)
    return x


def temporary_maps(mode, depth):
  """Peak temporary memory of a gradient, in feature maps."""
  x = jnp.ones((16, 16, 16, 4))
  structure, variables = nn_variables.split(Stack(mode, depth))

  def loss(params):
    module = nn_variables.merge(structure, {**variables, "params": params})
    return jnp.mean(jnp.square(module(x)))

  compiled = jax.jit(jax.grad(loss)).lower(variables["params"]).compile()
  return compiled.memory_analysis().temp_size_in_bytes / x.nbytes


def test_a_layer_costs_one_feature_map_in_tune_and_two_in_eval():
  """As XLA plans it; kernels and sums are a small fraction of a map."""
  tune, evaluate = (
    (temporary_maps(mode, 6) - temporary_maps(mode, 2)) / 4
    for mode in ("tune", "eval")
  )
  assert 0.9 < tune < 1.2
  assert 1.9 < evaluate < 2.2


def test_products_with_the_hessian():
  """Forward over reverse goes through what keeps its residuals itself."""
  x, kernel = X[:1], jnp.linspace(-1.0, 1.0, 54).reshape(3, 3, 3, 2)

  def loss(relu, linear, kernel):
    return jnp.sum(jnp.square(relu(linear(x, kernel)) - 1))

  plain = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(1, 1),
    padding="SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  ours, theirs = (
    jax.jvp(
      jax.grad(functools.partial(loss, *functions)), (kernel,), (kernel,)
    )[1]
    for functions in ((saved_residuals.relu, convolve), (jax.nn.relu, plain))
  )
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_relu_is_that_of_jax():
  x = jnp.array([-2.0, -0.0, 0.0, 3.0, jnp.inf])
  for relu in (saved_residuals.relu, jax.nn.relu):
    np.testing.assert_array_equal(relu(x), [0, 0, 0, 3, jnp.inf])
    np.testing.assert_array_equal(jax.vmap(jax.grad(relu))(x), [0, 0, 0, 1, 1])


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      {"conv_norm_mode": "deploy"},
      "conv_norm_mode='deploy'; allowed: 'train', 'eval', 'tune'.",
    ),
    (
      {"conv_norm_mode": "tune", "norm": "group_norm(num_groups=2)"},
      "conv_norm_mode='tune' folds the norm into the convolution before it,"
      " and group_norm is no affine map",
    ),
    (
      {"conv_norm_mode": "eval", "version": "v2"},
      "conv_norm_mode='eval' is for version='v1'",
    ),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    models.make("cifar_resnet", depth=8, width=4, **options)
