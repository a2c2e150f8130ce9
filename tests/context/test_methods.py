"""Which examples make the statistics, against plain formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import context, errors
from normjax.context import base, loop
from normjax.nn import calling
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from normjax.norms import modes

RNG = np.random.default_rng(0)
QUERIES, CONTROLS = RNG.normal(size=(2, 5, 3)), RNG.normal(size=(2, 7, 3)) + 1
LABELS = RNG.integers(4, size=(2, 5))
EPS, MOMENTUM, RATE = 1e-5, 0.9, 0.1


class Net(nnx.Module):
  """Linear, batch norm, ReLU, linear."""

  def __init__(self, norm="batch_norm", rngs=None):
    generator = np.random.default_rng(1)
    self.kernel = nnx.Param(jnp.asarray(generator.normal(size=(3, 4))))
    self.norm = NormLayer(norm, (4,))
    self.head = nnx.Param(jnp.asarray(generator.normal(size=(4, 4))))

  def __call__(self, x, *, train=None):
    return nnx.relu(self.norm(x @ self.kernel[...], train=train)) @ self.head


def _split(norm="batch_norm"):
  """In float64; the running statistics off their start."""
  structure, held = nn_variables.split(Net(norm))
  wide = jax.tree.map(lambda a: jnp.asarray(a, float), held)
  wide["stats"]["norm"] = {
    "mean": jnp.full(4, 0.3, float),
    "var": jnp.full(4, 2.0, float),
  }
  return structure, wide


def _moments(h, ddof=0):
  return h.mean(0), ((h - h.mean(0)) ** 2).sum(0) / (len(h) - ddof)


def _logits(params, queries, mean, var):
  h = (queries @ params["kernel"] - mean) / jnp.sqrt(var + EPS)
  h = h * params["norm"]["scale"] + params["norm"]["bias"]
  return jnp.maximum(h, 0) @ params["head"]


def _of_start(mean, var):
  """What one step makes of mean 0 and variance 1."""
  return (1 - MOMENTUM) * mean, MOMENTUM + (1 - MOMENTUM) * var


def _expected(method, params, stats, queries, controls, train):
  """By the equations."""
  q, c = queries @ params["kernel"], controls @ params["kernel"]
  stop = jax.lax.stop_gradient
  moments = {
    "erm": lambda: (
      _moments(q) if train else (stats["norm"]["mean"], stats["norm"]["var"])
    ),
    "tbn": lambda: _moments(q),
    "arm_bn": lambda: _moments(q),
    "cs_arm_bn": lambda: _moments(jnp.concatenate([q, c])),
    "ben": lambda: stop(_moments(c, 1)),
    "ben(cumulative=False)": lambda: stop(_of_start(*_moments(c, 1))),
  }
  return _logits(params, queries, *moments[method]())


METHODS = (*context.names(), "ben(cumulative=False)")


@pytest.mark.parametrize("method", METHODS)
def test_a_prediction(method):
  with jax.enable_x64(True):
    structure, held = _split()
    params, stats = held["params"], held["stats"]
    q, c = jnp.asarray(QUERIES[0]), jnp.asarray(CONTROLS[0])
    logits = loop.predict(
      structure, context.resolve(method), params, stats, q, c
    )
    expected = _expected(method, params, stats, q, c, False)
    np.testing.assert_allclose(logits, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_the_gradient_of_the_mean_over_blocks(method):
  """Of the queries alone; parameters after one step of plain descent."""
  import optax

  with jax.enable_x64(True):
    structure, held = _split()
    params, stats = held["params"], held["stats"]
    q, c, y = map(jnp.asarray, (QUERIES, CONTROLS, LABELS))

    @jax.jit
    def plain(params):
      def loss(params):
        blocks = [
          -jnp.mean(
            jax.nn.log_softmax(
              _expected(method, params, stats, q[g], c[g], True)
            )[jnp.arange(5), y[g]]
          )
          for g in range(2)
        ]
        return sum(blocks) / 2

      value, gradients = jax.value_and_grad(loss)(params)
      moved = jax.tree.map(lambda p, g: p - RATE * g, params, gradients)
      return value, moved

    program = loop.Program(structure, context.resolve(method), optax.sgd)
    state = loop.State(params, stats, optax.sgd(RATE).init(params))
    state, loss = loop.step(
      program, RATE, state, loop.Blocks(q, y, c), jax.random.key(0)
    )
    expected_loss, expected = plain(params)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-10)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
      state.params,
      expected,
    )


def test_one_query_has_its_controls():
  """ARM-BN has no statistics of one vector; with controls there are some."""
  structure, held = nn_variables.split(Net())
  one, controls = jnp.ones((1, 3)), jnp.asarray(CONTROLS[0], jnp.float32)
  given = structure, held["params"], held["stats"], one, controls

  def logits(method):
    first, *rest = given
    return loop.predict(first, context.make(method), *rest)

  assert np.isfinite(logits("cs_arm_bn")).all()
  assert np.isfinite(logits("ben")).all()
  with pytest.raises(errors.UserError, match="more than one value"):
    logits("arm_bn")


def test_measured_statistics_are_plain_averages():
  """Whatever the momentum; of Flax's batch norm, too."""
  model = Net()
  batches = np.split(QUERIES.reshape(10, 3).astype(np.float32), 2)
  found = context.measured(model, batches)
  each = [_moments(batch @ model.kernel[...], 1) for batch in batches]
  mean, var = (np.mean(values, 0) for values in zip(*each, strict=True))
  np.testing.assert_allclose(found.norm.mean[...], mean, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(found.norm.var[...], var, rtol=1e-5)
  # The momentum is what it was, and the given model stays.
  assert found.norm.norm.options["momentum"] == MOMENTUM
  np.testing.assert_array_equal(model.norm.mean[...], 0)
  flax = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
  found = context.measured(flax, [batches[0]])
  np.testing.assert_allclose(
    found.mean[...], batches[0].mean(0), rtol=1e-5, atol=1e-6
  )
  with pytest.raises(errors.UserError, match="batches is empty"):
    context.measured(model, [])
  with pytest.raises(errors.UserError, match="or one of them"):
    context.measured(model, [batches[0], batches[0][:0]])
  with pytest.raises(errors.UserError, match="'adab2n' at 'norm' are no"):
    context.measured(Net("adab2n"), batches)


@pytest.mark.parametrize("kind", ["flax", "own"])
def test_measured_statistics_are_those_of_all_calls(kind):
  """A norm that is called twice: the mean over both, not the last."""

  class Twice(nnx.Module):
    def __init__(self):
      if kind == "flax":
        self.held = nnx.data([nnx.BatchNorm(3, rngs=nnx.Rngs(0))])
      else:
        self.held = nnx.data([NormLayer("batch_norm", (3,))])

    def __call__(self, x):
      return self.held[0](x) + self.held[0](3 * x)

  x = QUERIES.reshape(10, 3).astype(np.float32)
  found = context.measured(Twice(), [x]).held[0]
  np.testing.assert_allclose(found.mean[...], 2 * x.mean(0), rtol=1e-5)
  var = x.var(0) if kind == "flax" else x.var(0, ddof=1)
  np.testing.assert_allclose(found.var[...], 5 * var, rtol=1e-5)


def test_a_mode_reaches_flax_layers():
  """Batch statistics without noise, which `train` alone cannot say."""
  layers = nnx.Sequential(
    nnx.BatchNorm(3, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1))
  )
  x = jnp.asarray(QUERIES[0], jnp.float32)
  y = calling.call(layers, x, train=base.BATCH)
  np.testing.assert_allclose(np.mean(y, 0), 0, atol=1e-6)
  assert (y != 0).all()
  held = np.asarray(layers.layers[0].mean[...])
  y = calling.call(layers, x, train=modes.Mode(noise=True))
  assert (y == 0).any()
  np.testing.assert_array_equal(layers.layers[0].mean[...], held)
