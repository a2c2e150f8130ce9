"""Every norm as an NNX module."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import norms
from normjax.nn import variables
from normjax.nn.norm_layer import NormLayer
from tests import support
from tests.norms import cases

X = support.normal(4, 3, 8) * 2 + 1
# Statistics and gains of 12 or 8 values: roundings of a reordered sum.
ATOL = 16 * 2**-24 * 4


def held(layer, kind):
  """The arrays of one kind of variable, by name."""
  return {
    name: value[...]
    for name, value in vars(layer).items()
    if isinstance(value, kind)
  }


def assert_equal(actual, expected):
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("name", norms.names())
def test_is_the_norm(name):
  norm = cases.make(name)
  x = cases.images(norm, X)
  initial = norm.init((8,))
  layer = NormLayer(norm, (8,))
  assert_equal(held(layer, nnx.Param), initial["params"])
  assert_equal(held(layer, variables.NormStat), initial["stats"])
  assert_equal(held(layer, variables.GradStat), initial["grad_stats"])

  assert_equal(layer(x, train=False), norm.apply(initial, x, train=False)[0])
  assert_equal(held(layer, variables.NormStat), initial["stats"])
  y, stats = norm.apply(initial, x)
  assert_equal(layer(x), y)
  assert_equal(held(layer, variables.NormStat), stats)


@pytest.mark.parametrize("name", cases.names_by_family())
def test_training_step_under_jit(name):
  """Gradients reach the parameters only, statistics advance in place."""
  norm = cases.make(name)
  layer = NormLayer(norm, (8,))
  eager = nnx.clone(layer)
  steps = 0

  def loss(layer, x):
    nonlocal steps
    steps += 1
    return jnp.sum(jnp.sin(layer(x)))

  step = nnx.jit(nnx.value_and_grad(loss))
  for x in (cases.images(norm, X), cases.images(norm, X + 1)):
    value, gradients = step(layer, x)
    expected, expected_gradients = nnx.value_and_grad(loss)(eager, x)
    np.testing.assert_allclose(value, expected, rtol=0, atol=96 * ATOL)
  assert steps == 3, "the second step compiled again"
  assert set(gradients) == set(held(layer, nnx.Param))
  for path, gradient in nnx.to_flat_state(gradients):
    expected = dict(nnx.to_flat_state(expected_gradients))[path]
    np.testing.assert_allclose(
      gradient[...], expected[...], rtol=0, atol=12 * ATOL
    )
  for stat, value in held(layer, variables.NormStat).items():
    np.testing.assert_allclose(
      value, getattr(eager, stat)[...], rtol=0, atol=ATOL * 8
    )


@pytest.mark.parametrize("name", cases.names_by_family())
def test_split_and_merge(name):
  """Layers made apart have one graph definition; merged copies are free."""
  norm = cases.make(name)
  x = cases.images(norm, X)
  layer = NormLayer(norm, (8,))
  graphdef, state = nnx.split(layer)
  again, _ = nnx.split(NormLayer(norm, (8,)))
  assert graphdef == again
  assert hash(graphdef) == hash(again)
  abstract = nnx.eval_shape(lambda: NormLayer(norm, (8,)))
  assert jax.tree.map(jnp.shape, nnx.state(abstract)) == jax.tree.map(
    jnp.shape, state
  )

  @jax.jit
  def forward(state, x):
    merged = nnx.merge(graphdef, state, copy=True)
    y = merged(x)
    return y, nnx.state(merged)

  before = held(layer, variables.NormStat)
  y, new_state = forward(state, x)
  assert_equal(held(layer, variables.NormStat), before)
  np.testing.assert_allclose(y, layer(x), rtol=0, atol=ATOL)
  for a, b in zip(
    jax.tree.leaves(new_state), jax.tree.leaves(nnx.state(layer)), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=0, atol=ATOL)


def test_bfloat16_keeps_float32_variables():
  layer = NormLayer("batch_norm", (8,), dtype=jnp.bfloat16)
  assert layer(X.astype(jnp.bfloat16)).dtype == jnp.bfloat16
  assert layer(X).dtype == jnp.bfloat16
  for leaf in jax.tree.leaves(nnx.state(layer)):
    assert leaf.dtype == jnp.float32
  assert NormLayer("batch_norm", (8,))(X).dtype == jnp.float32


def test_mask_reaches_the_statistics():
  mask = jnp.array([1, 1, 0, 0], bool)
  layer, packed = NormLayer("batch_norm", (8,)), NormLayer("batch_norm", (8,))
  y = layer(X, mask=mask)
  np.testing.assert_allclose(y[:2], packed(X[:2]), rtol=0, atol=ATOL)
  np.testing.assert_allclose(
    layer.mean[...], packed.mean[...], rtol=0, atol=ATOL
  )


def test_statistics_of_the_backward_pass_and_context():
  """A norm with every collection: the gradient of grad_stats comes out."""

  def init(shape, dtype):
    return {
      "params": {"scale": jnp.ones(shape, dtype)},
      "stats": {"steps": jnp.zeros(())},
      "grad_stats": {"seen": jnp.zeros(())},
    }

  def apply(variables, x, *, mode, mask, context):
    del mode, mask
    y = x * variables["params"]["scale"] + context
    y = y + variables["grad_stats"]["seen"]
    return y, {"steps": variables["stats"]["steps"] + 1}

  norm = dataclasses.replace(
    norms.make("identity"), name="toy", init_fn=init, apply_fn=apply
  )
  layer = NormLayer(norm, (8,))
  np.testing.assert_array_equal(layer(X, context=2.0), X + 2)
  assert layer.steps[...] == 1
  layer(X, train=False, context=2.0)
  assert layer.steps[...] == 1
  differentiated = nnx.DiffState(0, nnx.Any(nnx.Param, variables.GradStat))
  gradients = nnx.grad(
    lambda layer: jnp.sum(layer(X, context=0.0)), argnums=differentiated
  )(layer)
  assert gradients["seen"][...] == X.size


def drawing(shape, dtype, key):
  return {"params": {"scale": jax.random.normal(key, shape, dtype)}}


DRAWS = dataclasses.replace(
  norms.make("identity"), name="draws", init_fn=drawing, needs_key=True
)


def test_a_norm_that_draws_takes_the_params_stream():
  rngs = nnx.Rngs(params=3, dropout=4)
  first, second = (NormLayer(DRAWS, (8,), rngs=rngs) for _ in range(2))
  again = nnx.Rngs(params=3)
  for layer in (first, second):
    expected = DRAWS.init((8,), key=again.params())["params"]
    assert_equal(held(layer, nnx.Param), expected)
  assert (first.scale[...] != second.scale[...]).all()
  unkeyed = DRAWS.init((8,), key=jax.random.key(0))["params"]
  assert_equal(held(NormLayer(DRAWS, (8,)), nnx.Param), unkeyed)


def test_a_norm_that_does_not_draw_leaves_the_stream_alone():
  rngs = nnx.Rngs(0)
  NormLayer("layer_norm", (8,), rngs=rngs)
  assert rngs.params() == nnx.Rngs(0).params()


def test_what_a_site_hands_on():
  """The norm sees its variables, options and x; others hand on nothing."""

  def hand_on(variables, x, *, branch_gain, share):
    return variables["params"]["scale"] * x * branch_gain * share

  norm = dataclasses.replace(
    DRAWS, options={"share": 0.5}, context_for_next_fn=hand_on, init_fn=_scale
  )
  layer = NormLayer(norm, (8,))
  assert_equal(layer.context_for_next(X, branch_gain=4.0), 2 * X)
  assert (
    norms.make("layer_norm").context_for_next({}, X, branch_gain=4.0) is None
  )
  assert (
    NormLayer("layer_norm", (8,)).context_for_next(X, branch_gain=4.0) is None
  )


def _scale(shape, dtype, *, key, share):
  del key, share
  return {"params": {"scale": jnp.ones(shape, dtype)}}
