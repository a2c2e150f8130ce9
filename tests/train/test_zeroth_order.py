"""Zeroth order: the estimates, what they leave alone, and what they take."""

import functools
import itertools
import math
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from normjax import (
  build,
  configure,
  errors,
  objectives,
  rng,
  stopping,
  train,
)
from normjax.nn import linear, model_roles, shifted
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from normjax.norms import modes
from normjax.record import files, probes
from normjax.train import (
  check,
  entry,
  gradient,
  leaf_by_leaf,
  param_dtype,
  program,
)
from normjax.train import state as train_state
from normjax.train import step as train_step
from normjax.train.throughput import model_flops
from tests import products, support

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


def _mlp(text, *changes):
  norm = {"norm.name": "layer_norm"}
  return support.tiny_mlp({"train.gradient": text}, norm, *changes)


def _setup(config):
  """(recipe, first state, batch, hyper)."""
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, data = build.hyper(config), build.dataset(config)
  batch = dict(data.train_batch(0, 0, config.train.batch_size))
  return recipe, jax.jit(initialize)(hyper, batch), batch, hyper


class _Point(nnx.Module):
  """Gives its parameters, of which a squared error is quadratic."""

  def __init__(self, size):
    self.w = nnx.Param(jnp.linspace(-1.0, 2.0, size))

  def __call__(self, x):
    return jnp.broadcast_to(self.w[...], (len(x), len(self.w[...])))


class _Small(nnx.Module):
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


def _own(model, text, objective="cross_entropy", rate=1e-3, **changes):
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


def _estimate(recipe, state, batch, hyper):
  """The estimate, its leaves drawn."""

  def found(state):
    made = (recipe.gradient.estimate or train_step.backpropagate)(
      recipe, state, batch, hyper
    )
    drawn = leaf_by_leaf.call(lambda tree: tree, made.gradients)
    return made._replace(gradients=drawn)

  return jax.jit(found)(state)


def _steps(recipe, state, batch, hyper, num_steps=1):
  """(states, metrics) of the first steps, all on one batch."""
  take = jax.jit(functools.partial(train_step.train_step, recipe))
  states, rows = [state], []
  for _ in range(num_steps):
    state, metrics = take(state, batch, hyper)
    states.append(state)
    rows.append(jax.device_get(metrics))
  return states, rows


def _quadratic(size, text):
  """(the gradient, estimates of it by seed)."""
  recipe, state, batch, hyper = _own(_Point(size), text, "squared_error")
  exact = train_step.backpropagate(recipe, state, batch, hyper).gradients["w"]

  def one(seed):
    found = recipe.gradient.estimate(
      recipe, state, batch, hyper | {"seed": seed}
    )
    return leaf_by_leaf.call(lambda tree: tree["w"], found.gradients)

  return np.asarray(exact, np.float64), jax.jit(jax.vmap(one))


# Means over so many seeds: the squared error of the mean estimate is d + 1
# times |g|^2 over their number, here (1.5 %)^2; of the second moment, whose
# relative variance is below 10, (1.6 %)^2.
NUM_SEEDS, DIM = 40_000, 8


@pytest.mark.parametrize("sign", [False, True])
def test_moments_of_an_estimate(sign):
  """E[(z.g) z] = g, E|.|^2 = (d + 2)|g|^2; of signs sqrt(2/pi) g/|g| and d."""
  exact, estimates = _quadratic(DIM, f"zeroth_order(sign={sign})")
  found = np.asarray(estimates(jnp.arange(NUM_SEEDS)), np.float64)
  length = np.linalg.norm(exact)
  want = math.sqrt(2 / math.pi) * exact / length if sign else exact
  second = DIM if sign else (DIM + 2) * length**2
  error = np.linalg.norm(found.mean(0) - want) / np.linalg.norm(want)
  assert error < 0.03
  moment = np.mean(np.sum(found**2, axis=1))
  np.testing.assert_allclose(moment, second, rtol=0.03)


def test_directions_are_averaged():
  """Of q the variance is a q-th, here of (d + 1)|g|^2."""
  exact, estimates = _quadratic(DIM, "zeroth_order(num_directions=4)")
  found = np.asarray(estimates(jnp.arange(10_000)), np.float64)
  spread = np.mean(np.sum((found - exact) ** 2, axis=1))
  want = (DIM + 1) * np.sum(exact**2) / 4
  np.testing.assert_allclose(spread, want, rtol=0.05)


def _z(params, seed=0, number=0):
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


def _softmax_loss(params, batch):
  """Of a linear classifier with one hidden layer of ReLUs, float64."""
  w = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  x = np.asarray(batch["inputs"], np.float64).reshape(len(batch["targets"]), -1)
  hidden = x @ w["layers"]["0"]["kernel"] + w["layers"]["0"]["bias"]
  hidden = np.maximum(hidden, 0)
  logits = hidden @ w["head"]["kernel"] + w["head"]["bias"]
  logits -= logits.max(-1, keepdims=True)
  losses = (
    np.log(np.exp(logits).sum(-1))
    - np.take_along_axis(logits, np.asarray(batch["targets"])[:, None], -1)[
      :, 0
    ]
  )
  return losses.mean()


@pytest.mark.parametrize(
  "derivative",
  ["two_sided", pytest.param("one_sided", marks=pytest.mark.slow)],
)
def test_a_step_of_sgd_is_the_papers(derivative):
  """Of a config, against float64: w - rate g z, z by its formula."""
  eps = 0.02
  config = support.tiny_mlp(
    SGD,
    {
      "train.gradient": f"zeroth_order(derivative={derivative!r})",
      "train.perturbation_eps": eps,
      "norm.name": "identity",
    },
  )
  given = _setup(config)
  (first, moved), (row,) = _steps(*given)
  z = _z(first.params)

  def loss(t):
    return _softmax_loss(
      jax.tree.map(lambda w, z: np.float64(w) + t * z, first.params, z),
      given[2],
    )

  at_w = loss(0.0)
  if derivative == "two_sided":
    slope = (loss(eps) - loss(-eps)) / (2 * eps)
    logged = (loss(eps) + loss(-eps)) / 2
  else:
    slope, logged = (loss(eps) - at_w) / eps, at_w
  # Losses near 3 in float32 are off by some 2^-22: their difference over eps.
  found = jax.tree.map(lambda a, b: (a - b) / 1e-3, first.params, moved.params)
  atol = 2.0**-20 / eps
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(z), strict=True):
    # What is left of w - rate g z at weights below 1.
    np.testing.assert_allclose(
      a, slope * b, rtol=0, atol=4 * atol + 2.0**-23 / 1e-3
    )
  np.testing.assert_allclose(row["loss"], logged, rtol=1e-5)
  norm = abs(slope) * np.sqrt(sum((b**2).sum() for b in jax.tree.leaves(z)))
  np.testing.assert_allclose(row["grad_norm"], norm, rtol=atol / abs(slope))


def _named(tree):
  return dict(probes.named_leaves(jax.device_get(tree)))


def _slopes(text, **options):
  """What multiplies z in the estimate, by leaf."""
  model = _Small(**{k: v for k, v in options.items() if k == "dropout_rate"})
  found = _named(_estimate(*_own(model, text, **options)).gradients)
  z = _named(_z(_own(model, text)[1].params))
  return {
    path: float(np.vdot(g, z[path]) / np.vdot(z[path], z[path]))
    for path, g in found.items()
  }


@pytest.fixture(scope="module")
def exact():
  """The gradient by backpropagation."""
  return _named(_estimate(*_own(_Small(), "backpropagation")).gradients)


@pytest.fixture(scope="module")
def directional(exact):
  """Z . grad L by leaf."""
  z = _named(_z(_own(_Small(), "backpropagation")[1].params))
  return {path: float(np.vdot(g, z[path])) for path, g in exact.items()}


def test_forward_is_the_directional_derivative(directional):
  """Though the norms have rules for reverse mode alone."""
  found = _slopes("zeroth_order(derivative='forward')")
  want = sum(directional.values())
  np.testing.assert_allclose(list(found.values()), want, rtol=1e-4)


def test_two_sided_is_its_limit(directional):
  found = _slopes("zeroth_order", eps=1e-3)
  # Losses near 1.5 are off by 2^-23, over eps: 1e-4 of slopes near 1.
  want = sum(directional.values())
  np.testing.assert_allclose(list(found.values()), want, rtol=1e-3)


def test_blocks_are_moved_alone(directional):
  """Each leaf's slope is its part of the whole directional derivative."""
  found = _slopes("zeroth_order(derivative='forward', blocks='leaves')")
  scale = max(map(abs, directional.values()))
  for path, slope in found.items():
    # The direction of the others is exactly 0.
    assert abs(slope - directional[path]) < 1e-4 * scale, path
  layers = _slopes("zeroth_order(derivative='forward', blocks='layers')")
  want = directional["layers/1/kernel"] + directional["layers/1/bias"]
  np.testing.assert_allclose(layers["layers/1/kernel"], want, rtol=1e-3)
  assert len({f"{v:.5f}" for v in layers.values()}) == 3  # And the rest.


def test_hybrid_has_the_gradient_of_the_last_layers(exact):
  """Norm and head by backpropagation, the others' estimated."""
  given = _own(_Small(), "zeroth_order(first_order_layers=1)")
  found = _named(_estimate(*given).gradients)
  z = _named(_z(given[1].params))
  for path, g in found.items():
    if path.startswith("layers/"):
      slope = np.vdot(g, z[path]) / np.vdot(z[path], z[path])
      np.testing.assert_allclose(g, slope * z[path], rtol=1e-4)
    else:
      np.testing.assert_allclose(g, exact[path], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_hybrid_goes_back_through_the_last_layers_alone(scan_layers):
  """By products: two passes, one at w, and what is behind the first layers."""

  def products(text):
    config = support.tiny(
      OFF,
      {"train.gradient": text, "model.scan_layers": scan_layers},
      {"model.num_layers": 4},
    )
    recipe, initialize = program.recipe_and_initialize(config)
    hyper, data = build.hyper(config), build.dataset(config)
    batch = dict(data.train_batch(0, 0, 8))
    state = jax.eval_shape(initialize, hyper, batch)
    traced = jax.make_jaxpr(functools.partial(train_step.train_step, recipe))(
      state, batch, hyper
    )
    return model_flops.products(traced.jaxpr)

  forward = products("zeroth_order") / 2
  whole = products("backpropagation")
  assert whole == 3 * forward
  head = 2.0 * 8 * 16 * 16 * 256  # 2 b t d v.
  one = products("zeroth_order(first_order_layers=1)")
  assert one == 3 * forward + 2 * head
  two = products("zeroth_order(first_order_layers=2)")
  blocks = forward - head
  # A quarter of the blocks, but that nothing asks for the gradient of the
  # block's input, and so of three kernels' (queries, keys, values).
  assert one < two <= one + 2 * blocks / 4


def _drawn(jaxpr):
  """How many numbers a program draws; of two branches the fewer."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "random_bits":
      total += math.prod(equation.outvars[0].aval.shape)
    inner = [_drawn(each) for each in model_flops._inner(equation.params)]
    if equation.primitive.name == "cond":
      inner = [min(inner)]
    times = equation.params.get("length", 1)
    total += sum(inner) * (times if equation.primitive.name == "scan" else 1)
  return total


@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_step_takes_two_passes_and_three_draws(scan_layers):
  """By operations; with clipping off at run time."""
  config = support.tiny(
    {"train.gradient": "zeroth_order", "model.scan_layers": scan_layers},
    {"model.num_layers": 3},
  )
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, data = build.hyper(config), build.dataset(config)
  batch = dict(data.train_batch(0, 0, 8))
  state = jax.eval_shape(initialize, hyper, batch)
  traced = jax.make_jaxpr(functools.partial(train_step.train_step, recipe))(
    state, batch, hyper
  )

  def forward(variables):
    return train_step.forward(recipe, variables, batch["inputs"], train=True)[0]

  once = model_flops.products(jax.make_jaxpr(forward)(state.variables()).jaxpr)
  assert model_flops.products(traced.jaxpr) == 2 * once
  assert _drawn(traced.jaxpr) == 3 * train_state.num_params(state.params)


def _temporary_bytes(function, *shapes, **options):
  compiled = jax.jit(function, **options).lower(*shapes).compile()
  return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(
  ("scan_layers", "optimizer"),
  [(False, "adamw"), (True, "adamw"), (True, "muon")],
)
@pytest.mark.slow
@pytest.mark.optimized
def test_temporaries_of_a_decoder(scan_layers, optimizer):
  """At most those of its forward pass and four times the largest layer."""
  _check_temporaries(
    support.tiny(
      {
        "train.gradient": "zeroth_order",
        "optimizer.name": optimizer,
        "model.num_layers": 4,
        "model.model_dim": 128,
        "model.num_heads": 2,
        "model.hidden_dim": 512,
        "model.scan_layers": scan_layers,
        "train.batch_size": 2,
      }
    ),
    "0",
  )


def _check_temporaries(config, layer):
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, data = build.hyper(config), build.dataset(config)
  batch = dict(data.train_batch(0, 0, config.train.batch_size))
  state = jax.eval_shape(initialize, hyper, batch)

  def forward(state, batch, hyper):
    still = modes.Mode(noise=True, statistics="batch")
    means = train_step.means_in_training(
      recipe, state, batch, hyper, train=still
    )
    return means(state.variables(), (jnp.int32(0), batch))[0]

  inference = _temporary_bytes(forward, state, batch, hyper)
  step = functools.partial(train_step.train_step, recipe)
  found = _temporary_bytes(step, state, batch, hyper, donate_argnums=0)
  largest = 4 * train_state.num_params(state.params["layers"][layer])
  whole = 4 * train_state.num_params(state.params)
  # Of the whole tree w + eps z takes three times the weights.
  assert 4 * largest < 3 * whole / 2
  assert found <= inference + 4 * largest, (found, inference, largest)


def test_weights_are_not_walked():
  """At rate 0 every bit stays, where +eps, -2 eps, +eps leaves errors."""
  (first, *_, last), _ = _steps(*_own(_Small(), "zeroth_order", rate=0.0), 3)
  _assert_same(first.params, last.params)
  assert last.step == 3
  w, z = np.float32(0.02) * support.normal(1000), support.normal(1000, seed=1)
  walked = ((w + 1e-3 * z) - 2e-3 * z) + 1e-3 * z
  assert (walked != w).any()


def _assert_same(first, second):
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
    np.testing.assert_array_equal(a, b)


def test_both_passes_share_dropout():
  """Else the two losses differ by noise over 2 eps."""
  two = _slopes("zeroth_order", dropout_rate=0.5)
  limit = _slopes("zeroth_order(derivative='forward')", dropout_rate=0.5)
  np.testing.assert_allclose(
    list(two.values()), list(limit.values()), rtol=1e-3
  )


@pytest.mark.parametrize(
  "derivative",
  ["two_sided", pytest.param("one_sided", marks=pytest.mark.slow)],
)
def test_running_statistics_move_once(derivative):
  """As in a step with backpropagation, at w; or not at all."""
  model = _Small("batch_norm")
  want = _estimate(*_own(model, "backpropagation")).stats
  text = f"zeroth_order(derivative={derivative!r})"
  given = _own(model, text)
  found = _estimate(*given)
  for a, b in zip(
    jax.tree.leaves(found.stats), jax.tree.leaves(want), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-6)
  kept = text.replace(")", ", statistics='kept')")
  _assert_same(_estimate(*_own(model, kept)).stats, given[1].stats)


def test_mfu_counts_the_pass_that_moves_statistics():
  batch_norm = {"norm.name": "batch_norm"}
  once, kept, one_sided, without = (
    model_flops.per_step(_mlp(text, changes))
    for text, changes in (
      ("zeroth_order", batch_norm),
      ("zeroth_order(statistics='kept')", batch_norm),
      ("zeroth_order(derivative='one_sided')", batch_norm),
      ("zeroth_order", {}),
    )
  )
  assert 2 * once == 3 * kept
  assert kept == one_sided == without


@pytest.mark.parametrize(
  "name", ["lora(rank=2)", "sltrain(rank=2, density=0.5)"]
)
def test_what_no_call_moves_takes_no_pass(name):
  """W_0 and positions are among the statistics, and stay as they are."""
  model = _Small()
  model.head = linear.resolve(name).make(
    8,
    4,
    use_bias=True,
    kernel_init=nnx.initializers.lecun_normal(),
    dtype=jnp.float32,
    rngs=nnx.Rngs(0),
  )
  counts = []
  for text in ("zeroth_order", "zeroth_order(statistics='kept')"):
    recipe, *rest = _own(model, text)
    assert jax.tree.leaves(rest[0].stats)
    step = functools.partial(train_step.train_step, recipe)
    counts.append(len([*products.of(jax.make_jaxpr(step)(*rest))]))
  assert counts[0] == counts[1]


@pytest.mark.parametrize("first_order_layers", [0, 1])
def test_16_bits_are_moved_as_float32(first_order_layers):
  """In bfloat16 a weight is not moved by eps = 1e-3, or by far too much."""
  text = f"zeroth_order(first_order_layers={first_order_layers})"
  recipe, state, batch, hyper = _own(_Small(), text)
  narrow = param_dtype.narrow(state.params, "bfloat16")
  found, expected = (
    _estimate(recipe, state._replace(params=params), batch, hyper).gradients
    for params in (narrow, param_dtype.widen(narrow))
  )
  assert {x.dtype.name for x in jax.tree.leaves(found)} == {"float32"}
  # A difference of losses near 1.4 has 2 ulps of them, over 2 eps.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3),
    found,
    expected,
  )
  assert max(np.abs(x).max() for x in jax.tree.leaves(found)) > 0.1


@pytest.mark.slow
def test_statistics_of_the_backward_pass_stay():
  """There is none."""
  model = _Small("power_norm(warmup_steps=0)")
  (first, last), _ = _steps(*_own(model, "zeroth_order"))
  assert jax.tree.leaves(last.grad_stats)
  _assert_same(first.grad_stats, last.grad_stats)


def test_conservative_never_increases_the_loss_of_the_batch():
  """On one batch, with a rate at which the plain method goes up."""
  text = "zeroth_order(derivative='one_sided', conservative={})"
  _, careful = _steps(*_own(_Small(), text.format(True), rate=1.0), 12)
  _, plain = _steps(*_own(_Small(), text.format(False), rate=1.0), 12)
  losses = [float(row["loss"]) for row in careful]
  # The same function at the same point in another loop: a few roundings.
  pairs = list(itertools.pairwise(losses))
  assert all(b <= a * (1 + 1e-6) for a, b in pairs)
  assert losses[-1] < losses[0]
  # A step that was refused moved nothing.
  refused = [row["update_norm"] == 0 for row in careful[:-1]]
  assert any(refused)
  assert all(a == b for (a, b), r in zip(pairs, refused, strict=True) if r)
  assert max(float(row["loss"]) for row in plain) > losses[0]


@pytest.mark.parametrize("sparsity", [0.1, 0.29, 0.5, 0.9])
def test_exactly_that_share_stays(sparsity):
  """floor(s n), where normal() < s keeps another share: Phi(s) are 0."""
  for size in (7, 100, 1000):
    kept = shifted.is_kept(jax.random.key(size), (size,), sparsity)
    assert size - int(kept.sum()) == int(round(sparsity * 1000) * size // 1000)
  released = np.random.default_rng(0).normal(size=100_000) < sparsity
  phi = 0.5 * (1 + math.erf(sparsity / math.sqrt(2)))
  np.testing.assert_allclose(released.mean(), phi, atol=0.01)


@pytest.mark.slow
def test_a_sparse_step_moves_the_same_entries_until_they_are_drawn_anew():
  text = "zeroth_order(sparsity=0.75, resample_steps=2)"
  states, _ = _steps(*_own(_Small(), text), 3)
  kernels = [np.asarray(s.params["layers"]["1"]["kernel"]) for s in states]
  moved = [a != b for a, b in itertools.pairwise(kernels)]
  assert [m.sum() for m in moved] == [16] * 3
  np.testing.assert_array_equal(moved[0], moved[1])
  assert (moved[1] != moved[2]).any()


def test_what_is_frozen_is_not_moved():
  """What others there are does not change a leaf's z."""
  paths = frozenset({"layers/1/kernel"})
  given = _own(_Small(), "zeroth_order", trained=paths)
  found = _named(_estimate(*given).gradients)
  assert set(found) == paths
  z, g = _named(_z(given[1].params))["layers/1/kernel"], found.popitem()[1]
  slope = np.vdot(g, z) / np.vdot(z, z)
  np.testing.assert_allclose(g, slope * z, rtol=1e-4)


@pytest.mark.slow
def test_clipping_is_by_the_norm_of_the_estimate():
  _, (row,) = _steps(*_own(_Small(), "zeroth_order", clip=1e-2))
  assert row["grad_norm"] > 1e-2
  np.testing.assert_allclose(row["update_norm"], 1e-2 * 1e-3, rtol=1e-5)


@pytest.mark.slow
def test_micro_batches_give_the_same():
  whole, parts = (
    _estimate(*_own(_Small(), "zeroth_order", accumulation_steps=count))
    for count in (1, 4)
  )
  loss = whole.metrics["loss"], parts.metrics["loss"]
  np.testing.assert_allclose(*loss, rtol=1e-6)
  for a, b in zip(
    jax.tree.leaves(whole.gradients),
    jax.tree.leaves(parts.gradients),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, rtol=1e-3)


@pytest.mark.slow
def test_a_run_resumes_to_the_last_bit_alone_and_beside_others(tmp_path):
  """And members that differ in eps and rate are of one program."""
  lanes = {
    "a": {"seed": 1},
    "b": {"seed": 1, "train.perturbation_eps": 1e-2},
  }
  configs = {
    name: _mlp("zeroth_order", {"train.num_steps": 4}, change)
    for name, change in lanes.items()
  }
  results = entry.run_together(
    [entry.Run(c, tmp_path / name) for name, c in configs.items()], most=2
  )
  assert [result["state"] for result in results] == ["done"] * 2
  config, alone = configs["b"], tmp_path / "alone"
  straight = train.run(config, alone)
  np.testing.assert_allclose(
    results[1]["metrics"]["eval/loss"], straight["metrics"]["eval/loss"],
    rtol=1e-5,
  )  # fmt: skip
  parts = tmp_path / "parts"

  def observe(*seen):
    if seen == ("step", 1):
      os.kill(os.getpid(), signal.SIGTERM)

  with stopping.interruptible(), pytest.raises(KeyboardInterrupt):
    train.run(config, parts, observe)
  resumed = train.run(config, parts)
  assert files.read_json(parts / files.RUN)["resumed_at_steps"] == [2]
  assert resumed["metrics"] == straight["metrics"]
  assert support.rows(parts, "train") == support.rows(alone, "train")


MISTAKES = {
  "zeroth_ordre": "unknown gradient 'zeroth_ordre'.*zeroth_order",
  "zeroth_order(eps=1e-3)": "no option 'eps'",
  "zeroth_order(derivative='central')": "derivative='central'.*two_sided",
  "zeroth_order(num_directions=0)": "num_directions=0.*>= 1",
  "zeroth_order(num_directions=2.0)": "num_directions=2.0",
  "zeroth_order(sparsity=1.0)": "sparsity=1.0",
  "zeroth_order(sparsity=-0.1)": "sparsity=-0.1",
  "zeroth_order(resample_steps=5)": "resample_steps=5.*without sparsity",
  "zeroth_order(blocks='layer')": "blocks='layer'.*layers",
  "zeroth_order(statistics='twice')": "statistics='twice'.*once.*kept",
  "zeroth_order(first_order_layers=-1)": "first_order_layers=-1",
  "zeroth_order(sign=1)": "sign=1",
  "zeroth_order(": "is not a name",
  "backpropagation(q=1)": "no option 'q'",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_named(text):
  with pytest.raises(
    errors.UserError, match=f"train.gradient=.*{MISTAKES[text]}"
  ):
    check.check(_mlp(text))


def test_what_is_not_taken_is_not_made_up_for():
  """Kahan's rest would hold the update that made the loss larger."""
  changes = {"train.param_dtype": "bfloat16", "train.param_rounding": "kahan"}
  check.check(_mlp("zeroth_order", changes))
  with pytest.raises(errors.UserError, match="rounding='kahan'; allowed"):
    check.check(_mlp("zeroth_order(conservative=True)", changes))


@pytest.mark.parametrize(
  "text", ["backpropagation", "zeroth_order(derivative='forward')"]
)
def test_an_eps_that_nothing_reads(text):
  with pytest.raises(errors.UserError, match="perturbation_eps=0.01.*not read"):
    check.check(_mlp(text, {"train.perturbation_eps": 0.01}))


def test_nothing_left_to_estimate():
  text = "zeroth_order(first_order_layers=3)"
  with pytest.raises(errors.UserError, match="of 3 layers nothing is left"):
    program.recipe_and_initialize(_mlp(text))


def test_layers_of_a_model_without_them():
  recipe = _own(_Point(3), "zeroth_order(blocks='layers')")[0]
  with pytest.raises(errors.UserError, match="no layers called layers/0"):
    recipe.gradient.check(recipe)


def test_eps_is_traced_at_its_default_too():
  configs = [
    _mlp("zeroth_order", {"train.perturbation_eps": eps})
    for eps in (1e-3, 1e-2)
  ]
  keys = {build.program_key(config) for config in configs}
  assert len(keys) == 1
  assert all("train.perturbation_eps" in build.hyper(c) for c in configs)
  plain = configure.to_dict(support.tiny_mlp())["train"]
  assert not {"gradient", "perturbation_eps"} & set(plain)


@pytest.mark.parametrize(
  "name",
  [
    "cifar_resnet",
    *(
      pytest.param(name, marks=pytest.mark.slow)
      for name in (
        "vit", "gpt2", "spiking_mlp", "nfnet", "fixup_cifar_resnet",
        "cifar_nf_resnet",
      )
    ),
  ],
)  # fmt: skip
def test_any_model(name):
  """In shapes: its leaves are drawn wherever it reads them."""
  base = support.DECODER if name == "gpt2" else support.RESNET
  sized = name in ("gpt2", "cifar_resnet")
  config = configure.override(
    configure.load("configs/default.py"),
    {k: v for k, v in base.items() if sized or not k.startswith("model.")}
    | {"model.name": name, "train.gradient": "zeroth_order"}
    | {"norm.name": "layer_norm" if name == "vit" else "identity"},
  )
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, data = build.hyper(config), build.dataset(config)
  batch = dict(data.train_batch(0, 0, 8))
  state = jax.eval_shape(initialize, hyper, batch)
  moved, _ = jax.eval_shape(
    functools.partial(train_step.train_step, recipe), state, batch, hyper
  )
  shapes = [jax.tree.map(jnp.shape, s.params) for s in (moved, state)]
  assert shapes[0] == shapes[1]
