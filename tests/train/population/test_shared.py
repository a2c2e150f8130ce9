"""What members of a population share: found by tracing, not by names."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax.train import block_gradients, program, state
from normjax.train import step as train_step
from normjax.train.population import shared
from normjax.train.population import together as together_lib
from tests import support


def _traced(optimizer):
  return program.traced(
    support.tiny_mlp({"optimizer.name": optimizer, "model.hidden_dim": 16})
  )


def _conditionals(alone):
  """Of a step of a program, and of one of three members side by side."""
  batch, _, hyper = alone.abstract
  step = functools.partial(train_step.train_step, alone.recipe)
  want = shared.num_conditionals(step, alone.abstract_state, batch, hyper)
  together = together_lib.Together(alone)
  kinds = {"same_batches": False, "same_evaluation": True}
  stacked, (batch, _, hyper) = together.arguments(3, **kinds)
  found = shared.num_conditionals(
    together.mapped(**kinds)[0],
    stacked,
    batch,
    hyper,
    jax.ShapeDtypeStruct((3,), bool),
  )
  return want, found


_LONG = [pytest.param(x, marks=pytest.mark.slow) for x in ("soap", "galore")]


@pytest.mark.parametrize("optimizer", ["conda", *_LONG])
def test_a_refresh_stays_a_conditional(optimizer):
  """Batched counters would have the matrices factorised at every step."""
  want, found = _conditionals(_traced(optimizer))
  assert found == want > 0


_LOOP = {"model.scan_layers": True}


@pytest.mark.parametrize(
  ("base", "changes"),
  [
    pytest.param(
      support.tiny_mlp, {"optimizer.others": "block"}, id="branches"
    ),
    pytest.param(support.tiny, _LOOP, id="loop", marks=pytest.mark.slow),
  ],
)
def test_members_take_the_gradients_of_one_choice_of_blocks(base, changes):
  """A batched choice would have them compute those of every one."""
  config = base(
    {
      "optimizer.name": "badam",
      "model.num_layers": 2,
      block_gradients.PATH: True,
      **changes,
    }
  )
  want, found = _conditionals(program.traced(config))
  assert found == want > 0


def _own_transform():
  """Counts steps, and steps with a large gradient, under odd names."""

  def init(params):
    return {
      "a": jnp.zeros((), jnp.int32),
      "b": jnp.zeros((), jnp.int32),
      "c": jnp.ones((3,)),
      "d": jax.tree.map(jnp.zeros_like, params),
    }

  def update(updates, before, params=None):
    del params
    large = optax.tree.norm(updates) > 1
    after = {
      "a": before["a"] + 1,
      "b": before["b"] + large,
      "c": before["c"] * before["a"],
      "d": before["d"],
    }
    return updates, after

  return optax.GradientTransformation(init, update)


def test_what_a_member_alone_could_say_is_shared():
  transform = _own_transform()

  def start(variables, hyper):
    del hyper
    return state.create(variables, transform.init(variables["params"]))

  def step(before, batch, hyper):
    gap = before.optimizer_state["a"] % hyper["gap"] == 0
    gradients = jax.tree.map(
      lambda w: jax.lax.cond(gap, jnp.sin, jnp.cos, w * batch * hyper["rate"]),
      before.params,
    )
    # Whether a gradient is skipped is of a member, and of no scalar's making.
    gradients = jax.tree.map(
      lambda g: jax.lax.cond(
        jnp.all(jnp.isfinite(g)), jnp.positive, jnp.zeros_like, g
      ),
      gradients,
    )
    _, moved = transform.update(gradients, before.optimizer_state)
    after = before._replace(
      step=before.step + 1,
      params=gradients,
      optimizer_state=moved,
      diverged_at=jnp.int32(gradients["w"][0]),
    )
    return after, {}

  variables = {"params": {"w": jnp.ones(2)}, "stats": {}, "grad_stats": {}}
  hyper = {"gap": jnp.float32(2), "rate": jnp.float32(1)}
  abstract = jax.eval_shape(start, variables, hyper)
  found = shared.find(start, step, abstract, jnp.ones(2), hyper)
  paths = [
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, _ in jax.tree_util.tree_leaves_with_path(abstract)
  ]
  # Neither the count of large gradients nor what holds no number of its own;
  # parameters that stay where they are may have begun elsewhere.
  assert {paths[n] for n in found.leaves} == {
    "step",
    "optimizer_state/a",
    "optimizer_state/c",
    "optimizer_state/d/w",
  }
  # The scalar that decides the conditional, and no other.
  assert found.scalars == {"gap"}


def noisy(learning_rate):
  """An optimizer that keeps a random key of the typed kind."""

  def init(params):
    del params
    return jax.random.key(7)

  def update(updates, key, params=None):
    del params
    key, drawn = jax.random.split(key)
    noise = 1 + 0.1 * jax.random.normal(drawn)
    return jax.tree.map(lambda u: -learning_rate * noise * u, updates), key

  return optax.GradientTransformation(init, update)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_random_key_goes_by_its_numbers(impl):
  """NumPy knows no such arrays."""
  key = jax.random.key(3, impl=impl)
  numbers = together_lib._numbers(key)
  assert together_lib._of_numbers(numbers, key) == key
  pair = together_lib._of_numbers(np.stack([numbers, numbers]), key)
  assert (pair.shape, pair.dtype) == ((2,), key.dtype)


@pytest.mark.slow
def test_a_random_key_is_stacked_as_any_leaf():
  config = support.tiny_mlp(
    {"optimizer.name": f"{__name__}:noisy", "optimizer.learning_rate": 0.01}
  )
  together = together_lib.Together(program.traced(config))

  def like(leaf, seed):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key(seed) if is_key else np.zeros(leaf.shape, leaf.dtype)

  own, other = (
    jax.tree.map(
      functools.partial(like, seed=n), together.program.abstract_state
    )
    for n in range(2)
  )
  keys = together.shared_of(own), together.shared_of(other)
  assert any(not np.array_equal(*pair) for pair in zip(*keys, strict=True))
  stacked = together.stack([own, own], own)
  moved = together.with_shared(stacked, keys[1])
  assert moved.optimizer_state == other.optimizer_state
