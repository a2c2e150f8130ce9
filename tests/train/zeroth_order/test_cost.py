"""What a zeroth-order step takes: passes, draws and memory."""

import functools
import math

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from normjax import build
from normjax.nn import linear
from normjax.norms import modes
from normjax.train import program
from normjax.train import state as train_state
from normjax.train import step as train_step
from normjax.train.throughput import model_flops
from tests import products, support
from tests.train.zeroth_order import cases


@pytest.mark.parametrize("scan_layers", [False, True])
def test_hybrid_goes_back_through_the_last_layers_alone(scan_layers):
  """By products: two passes, one at w, and what is behind the first layers."""

  def products(text):
    config = support.tiny(
      cases.OFF,
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


def test_mfu_counts_the_pass_that_moves_statistics():
  batch_norm = {"norm.name": "batch_norm"}
  once, kept, one_sided, without = (
    model_flops.per_step(cases.mlp(text, changes))
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
  model = cases.Small()
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
    recipe, *rest = cases.own(model, text)
    assert jax.tree.leaves(rest[0].stats)
    step = functools.partial(train_step.train_step, recipe)
    counts.append(len([*products.of(jax.make_jaxpr(step)(*rest))]))
  assert counts[0] == counts[1]


def test_forwards_of_a_step_are_counted_where_options_do_not_say():
  """2 per block; of a part by backpropagation what is behind it."""

  def forwards(text, **changes):
    changes = {f"model.{name}": value for name, value in changes.items()}
    sizes = {"train.gradient": text, "model.num_layers": 2}
    return model_flops.forwards_per_step(support.tiny(sizes, changes))

  assert forwards("backpropagation") == 3
  assert forwards("zeroth_order(num_directions=3)") == 6
  one_sided = "zeroth_order(derivative='one_sided', conservative=True)"
  assert forwards(one_sided) == 1 + 1 + 3
  # Embedding, two layers, and the rest.
  assert forwards("zeroth_order(blocks='layers')") == 2 * 4
  hybrid = "zeroth_order(first_order_layers=1)"
  # The head is of 2 b t d v; queries to outputs 4 d^2, the rest 3 d h.
  head, block = 16 * 256, 4 * 16**2 + 3 * 16 * 48 + 2 * 16 * 16
  want = 3 + 2 * head / (head + 2 * block)
  assert forwards(hybrid) == pytest.approx(want, rel=1e-12)
  assert forwards(hybrid, remat=True) == pytest.approx(want, rel=1e-12)
