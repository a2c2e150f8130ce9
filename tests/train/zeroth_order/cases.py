"""Models, steps and draws that the tests of zeroth order share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from normjax import build, objectives, rng
from normjax.nn import model_roles
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from normjax.record import probes
from normjax.train import gradient, leaf_by_leaf, program
from normjax.train import state as train_state
from normjax.train import step as train_step
from tests import support

OFF = {"train.gradient_clip": 0.0}


SGD = {
  **OFF,
  "optimizer.name": "sgd",
  "optimizer.momentum": 0.0,
  "optimizer.learning_rate": 1e-3,
  "optimizer.weight_decay": 0.0,
  "schedule.name": "constant",
  "schedule.warmup_fraction": 0.0,
}


def mlp(text, *changes):
  norm = {"norm.name": "layer_norm"}
  return support.tiny_mlp({"train.gradient": text}, norm, *changes)


def setup(config):
  """(recipe, first state, batch, hyper)."""
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, data = build.hyper(config), build.dataset(config)
  batch = dict(data.train_batch(0, 0, config.train.batch_size))
  return recipe, jax.jit(initialize)(hyper, batch), batch, hyper


class Point(nnx.Module):
  """Gives its parameters, of which a squared error is quadratic."""

  def __init__(self, size):
    self.w = nnx.Param(jnp.linspace(-1.0, 2.0, size))

  def __call__(self, x):
    return jnp.broadcast_to(self.w[...], (len(x), len(self.w[...])))


class Small(nnx.Module):
  """Two layers with a norm, and a head."""

  def __init__(self, norm="layer_norm", dropout_rate=0.0):
    rngs = nnx.Rngs(0)
    self.layers = nnx.List([nnx.Linear(3, 8, rngs=rngs)])
    self.layers.append(nnx.Linear(8, 8, rngs=rngs))
    self.norm = NormLayer(norm, (8,))
    self.dropout = nnx.Dropout(dropout_rate, rngs=rngs)
    self.head = nnx.Linear(8, 4, rngs=rngs)

  def __call__(self, x, *, train=True, key=None):
    x = self.dropout(jnp.tanh(self.layers[0](x)))
    return self.head(jnp.tanh(self.norm(self.layers[1](x), train=train)))


def own(model, text, objective="cross_entropy", rate=1e-3, **changes):
  """(recipe, state, batch, hyper) of a model of one's own, with plain SGD."""
  structure, variables = nn_variables.split(model)
  tx = optax.sgd(rate)
  recipe = train_step.Recipe(
    graphdef=structure,
    make_optimizer=lambda *_: tx,
    schedule=lambda *_: 1.0,
    make_objective=lambda _: objectives.make(objective),
    accumulation_steps=1,
    probes=(),
    roles=model_roles.of(model),
    gradient=gradient.REGISTRY.resolve(text),
  )
  recipe = recipe._replace(
    **{k: v for k, v in changes.items() if k in recipe._fields}
  )
  state = train_state.create(variables, tx.init(variables["params"]))
  hyper = {
    "seed": jnp.int32(0),
    "train.gradient_clip": jnp.float32(changes.get("clip", 0.0)),
    "train.max_loss": jnp.float32(100.0),
    "train.perturbation_eps": jnp.float32(changes.get("eps", 1e-3)),
    "optimizer.learning_rate": jnp.float32(rate),
  }
  inputs = support.normal(8, 3)
  targets = jnp.arange(8) % 4
  if objective == "squared_error":
    targets = jnp.zeros((8, state.params["w"].size))
  batch = {"inputs": inputs, "targets": targets, "weight": jnp.ones(8)}
  return recipe, state, batch, hyper


def estimate(recipe, state, batch, hyper):
  """The estimate, its leaves drawn."""

  def found(state):
    made = (recipe.gradient.estimate or train_step.backpropagate)(
      recipe, state, batch, hyper
    )
    drawn = leaf_by_leaf.call(lambda tree: tree, made.gradients)
    return made._replace(gradients=drawn)

  return jax.jit(found)(state)


def steps(recipe, state, batch, hyper, num_steps=1):
  """(states, metrics) of the first steps, all on one batch."""
  take = jax.jit(functools.partial(train_step.train_step, recipe))
  states, rows = [state], []
  for _ in range(num_steps):
    state, metrics = take(state, batch, hyper)
    states.append(state)
    rows.append(jax.device_get(metrics))
  return states, rows


def z_of(params, seed=0, number=0):
  """The z of the first step by its formula, as a tree."""
  key = rng.fold(jnp.int32(seed), "zeroth_order", 0)
  key = jax.random.fold_in(key, number)
  leaves, structure = jax.tree.flatten(params)
  return structure.unflatten(
    [
      np.asarray(jax.random.normal(jax.random.fold_in(key, i), w.shape))
      for i, w in enumerate(leaves)
    ]
  )


def named(tree):
  return dict(probes.named_leaves(jax.device_get(tree)))


def slopes(text, **options):
  """What multiplies z in the estimate, by leaf."""
  model = Small(**{k: v for k, v in options.items() if k == "dropout_rate"})
  found = named(estimate(*own(model, text, **options)).gradients)
  z = named(z_of(own(model, text)[1].params))
  return {
    path: float(np.vdot(g, z[path]) / np.vdot(z[path], z[path]))
    for path, g in found.items()
  }


def assert_same(first, second):
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
    np.testing.assert_array_equal(a, b)


@functools.cache
def exact():
  """The gradient by backpropagation."""
  return named(estimate(*own(Small(), "backpropagation")).gradients)


@functools.cache
def directional():
  """Z . grad L by leaf."""
  z = named(z_of(own(Small(), "backpropagation")[1].params))
  return {path: float(np.vdot(g, z[path])) for path, g in exact().items()}
