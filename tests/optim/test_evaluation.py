"""The parameters of an evaluation where they are not the trained ones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import build, configure, errors, optim
from normjax.train import program, step
from tests.objectives import test_training, toys

PARAMS = {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}


@pytest.mark.parametrize("name", optim.names())
def test_ours_are_evaluated_as_they_are_trained(name):
  tx = optim.make(name, learning_rate=0.1)
  state = jax.eval_shape(tx.init, PARAMS)
  assert optim.evaluation_params(state, PARAMS) is PARAMS


def test_it_is_found_within_chains_and_wrappers():
  tx = optax.chain(optax.clip(1.0), optax.MultiSteps(toys.averaged_sgd(0.1), 1))
  state = tx.init(PARAMS)
  moved = jax.tree.map(lambda w: w + 1, PARAMS)
  found = optim.evaluation_params(state, moved)
  jax.tree.map(np.testing.assert_array_equal, found, PARAMS)


@pytest.mark.parametrize(
  ("tx", "message"),
  [
    (
      optax.chain(toys.averaged_sgd(0.1), toys.averaged_sgd(0.1)),
      "here 2 do: AveragedState, AveragedState",
    ),
    *(
      (
        optax.masked(inner, {"kernel": True, "bias": False}),
        "evaluation parameters of another structure",
      )
      for inner in (
        toys.averaged_sgd(0.1),
        optax.contrib.schedule_free_sgd(0.1),
      )
    ),
  ],
)
def test_what_is_not_of_the_whole_tree_is_refused(tx, message):
  with pytest.raises(errors.UserError, match=message):
    optim.evaluation_params(tx.init(PARAMS), PARAMS)


def _schedule_free(state, params):
  return optax.contrib.schedule_free_eval_params(state, params)


@pytest.mark.parametrize(
  ("optimizer", "reference", "frozen"),
  [
    ("optax.contrib:schedule_free_adamw", _schedule_free, False),
    ("tests.objectives.toys:averaged_sgd", lambda s, _: s.average, True),
  ],
  ids=["schedule_free", "average of what is trained"],
)
def test_an_evaluation_uses_them(optimizer, reference, frozen):
  """Named in a config; what is frozen is evaluated as it is."""
  config = configure.override(
    test_training._config(),
    {
      "optimizer.name": optimizer,
      "optimizer.learning_rate": 0.1,
      "train.output_frozen": frozen,
    },
  )
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, data = build.hyper(config), build.dataset(config)
  state = jax.jit(initialize)(hyper)
  train_step = jax.jit(lambda *given: step.train_step(recipe, *given)[0])
  for index in range(3):
    state = train_step(state, data.train_batch(0, index, 8), hyper)
  batch = next(data.evaluation_batches(30))
  moved = step.frozen.select(state.params, recipe.trained)
  chosen = reference(state.optimizer_state, moved)
  by_hand = state._replace(
    params=step.frozen.put_back(state.params, chosen), optimizer_state=()
  )
  raw = state._replace(optimizer_state=())
  got, want, other = (
    float(step.evaluation_step(recipe, s, batch, hyper)["loss"])
    for s in (state, by_hand, raw)
  )
  assert got == want != other
