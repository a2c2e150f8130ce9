"""Every norm as a Linen module, trained as Linen modules are."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import errors as flax_errors
from flax import linen, nnx
from flax.training import train_state as flax_train_state

from normjax import norms
from normjax.nn import variables as nn_variables
from normjax.nn.linen import LinenNorm
from normjax.nn.norm_layer import NormLayer
from tests import support
from tests.norms import cases
from tests.train import plain_step

X = support.normal(4, 3, 8) * 2 + 1


class TrainState(flax_train_state.TrainState):
  """Flax's, with the running statistics."""

  batch_stats: Any


@pytest.mark.parametrize("name", norms.names())
def test_is_the_norm(name):
  norm = cases.make(name)
  x = cases.images(norm, X)
  layer = LinenNorm(norm)
  made = layer.init(jax.random.key(0), x)
  initial = norm.init((8,))
  if norm.needs_key:  # The draws are those of Linen's stream.
    assert jax.tree.map(jnp.shape, made["params"]) == jax.tree.map(
      jnp.shape, initial["params"]
    )
    initial["params"] = made["params"]
  # Initializing is no step: the statistics are as they were made.
  jax.tree.map(
    np.testing.assert_array_equal,
    (made.get("params", {}), made.get("batch_stats", {})),
    (initial["params"], initial["stats"]),
  )
  y, updated = layer.apply(made, x, mutable=["batch_stats"])
  expected, stats = norm.apply(initial, x)
  np.testing.assert_array_equal(y, expected)
  jax.tree.map(
    np.testing.assert_array_equal, updated.get("batch_stats", {}), stats
  )
  y = layer.apply(made, x, train=False)
  expected, _ = norm.apply(initial, x, train=False)
  np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("name", cases.names_by_family())
def test_trains_in_a_train_state(name):
  """A model of two layers learns, and its statistics move with the data."""
  norm = cases.make(name)
  inputs = cases.images(norm, X)

  class Model(linen.Module):
    """Dense, norm, dense."""

    @linen.compact
    def __call__(self, x, train):
      x = linen.Dense(8, dtype=jnp.bfloat16)(x)
      x = LinenNorm(norm, name="norm")(x, train=train)
      return linen.Dense(1)(x)

  model = Model()
  made = model.init(jax.random.key(0), inputs[:1, :1], train=True)
  state = TrainState.create(
    apply_fn=model.apply,
    params={k: v for k, v in made.items() if k != "batch_stats"},
    tx=optax.adam(0.05),
    batch_stats=made.get("batch_stats", {}),
  )
  for leaf in jax.tree.leaves((state.params, state.batch_stats)):
    assert leaf.dtype in (jnp.float32, jnp.int32)

  @jax.jit
  def step(state):
    def loss(params):
      y, updated = state.apply_fn(
        {**params, "batch_stats": state.batch_stats},
        inputs,
        train=True,
        mutable=["batch_stats"],
      )
      error = y - jnp.sin(inputs.sum(-1, keepdims=True))
      return jnp.mean(error**2), updated.get("batch_stats", {})

    (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(
      state.params
    )
    return state.apply_gradients(grads=gradients, batch_stats=stats), value

  losses = []
  for _ in range(30):
    state, value = step(state)
    losses.append(float(value))
  assert losses[-1] < losses[0] / 2
  before = {k: v for k, v in made.items() if k != "params"}
  after = {**state.params, "batch_stats": state.batch_stats}
  moved = jax.tree_util.tree_map_with_path(
    lambda path, old, new: path[-1].key == "skips" or bool(jnp.any(new != old)),
    before,
    {name: after[name] for name in before},
  )
  assert all(jax.tree.leaves(moved))


class _Linen(linen.Module):
  """Dense, norm, dense, in a user's own Linen code."""

  norm: Any

  @linen.compact
  def __call__(self, x, train):
    x = linen.Dense(8, name="first")(x)
    x = LinenNorm(self.norm, name="norm")(x, train=train)
    return linen.Dense(4, name="second")(x)


class _Nnx(nnx.Module):
  """The same in NNX."""

  def __init__(self, norm, rngs):
    self.first = nnx.Linear(8, 8, rngs=rngs)
    self.norm = NormLayer(norm, (8,))
    self.second = nnx.Linear(8, 4, rngs=rngs)

  def __call__(self, x, *, train=True, key=None):
    return self.second(self.norm(self.first(x), train=train))


@pytest.mark.parametrize("name", ["power_norm", "unified_norm"])
def test_backward_statistics_are_those_of_our_train_step(name):
  """Flax's TrainState writes them back, past the optimizer, as ours does."""
  norm = {"name": name, "warmup_steps": 2}
  targets = jax.random.randint(jax.random.key(1), X.shape[:-1], 0, 4)
  ported = _Nnx(norm, nnx.Rngs(0))
  variables = nn_variables.split(ported)[1]
  tx = optax.adamw(0.05, weight_decay=0.1)
  ours, train_step, _ = plain_step.around(ported, tx)

  model = _Linen(norm)
  made = model.init(jax.random.key(0), X, train=True)
  theirs = TrainState.create(
    apply_fn=model.apply,
    params={
      "params": variables["params"],
      "_overwrite_with_gradient": made["_overwrite_with_gradient"],
    },
    tx=tx,
    batch_stats=made["batch_stats"],
  )

  @jax.jit
  def flax_step(state):
    def loss(params):
      logits, updated = state.apply_fn(
        {**params, "batch_stats": state.batch_stats},
        X,
        train=True,
        mutable=["batch_stats"],
      )
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
      return losses.mean(), updated["batch_stats"]

    gradients, stats = jax.grad(loss, has_aux=True)(state.params)
    return state.apply_gradients(grads=gradients, batch_stats=stats)

  batch = {"inputs": X, "targets": targets, "weight": jnp.ones(targets.shape)}
  for _ in range(5):
    ours = train_step(ours, batch)
    theirs = flax_step(theirs)
  first = (ours.params, ours.grad_stats, ours.stats)
  second = (
    theirs.params["params"],
    theirs.params["_overwrite_with_gradient"],
    theirs.batch_stats,
  )
  assert jax.tree.structure(first) == jax.tree.structure(second)
  # Sums of 12 tokens in other orders; Adam divides by roots of small moments.
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5),
    first,
    second,
  )
  assert ours.grad_stats["norm"]["ema_gz"].any()


def test_dtype_of_the_output():
  y, variables = LinenNorm("layer_norm", dtype=jnp.bfloat16).init_with_output(
    jax.random.key(0), X
  )
  assert y.dtype == jnp.bfloat16
  assert variables["params"]["scale"].dtype == jnp.float32


def test_evaluation_without_statistics_fails():
  layer = LinenNorm("batch_norm")
  params = {"params": layer.init(jax.random.key(0), X)["params"]}
  with pytest.raises(flax_errors.ScopeCollectionNotFound, match="batch_stats"):
    layer.apply(params, X, train=False)


def test_statistics_of_the_backward_pass():
  """They live where Flax keeps what gradients overwrite."""

  def init(shape, dtype):
    del shape, dtype
    return {"grad_stats": {"seen": jnp.zeros(())}}

  def apply(variables, x, **_):
    return x + variables["grad_stats"]["seen"], variables["stats"]

  identity = norms.make("identity")
  norm = norms.Norm("toy", {}, identity.traits, init, apply)
  layer = LinenNorm(norm)
  made = layer.init(jax.random.key(0), X)
  assert set(made) == {"_overwrite_with_gradient"}
  gradient = jax.grad(lambda made: jnp.sum(layer.apply(made, X)))(made)
  assert gradient["_overwrite_with_gradient"]["seen"] == X.size


def test_a_norm_that_draws_takes_the_params_stream():
  """A key of each module when initializing, none afterwards."""

  def init(shape, dtype, key):
    return {"params": {"scale": jax.random.normal(key, shape, dtype)}}

  norm = dataclasses.replace(
    norms.make("identity"), name="draws", init_fn=init, needs_key=True
  )

  class Model(linen.Module):
    """Two norms."""

    @linen.compact
    def __call__(self, x):
      return LinenNorm(norm)(LinenNorm(norm)(x))

  first, second = Model().init(jax.random.key(1), X)["params"].values()
  assert (first["scale"] != second["scale"]).all()
  other, _ = Model().init(jax.random.key(2), X)["params"].values()
  assert (first["scale"] != other["scale"]).all()
  made = LinenNorm(norm).init(jax.random.key(1), X)
  np.testing.assert_array_equal(LinenNorm(norm).apply(made, X), X)
