"""The moving average of weights: kept, evaluated, saved, opened again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import normjax
from normjax import build, configure, errors, train
from normjax.record import files
from normjax.train import average, check, preview, program, step
from tests import support

TINY = {
  "model.name": "mlp",
  "model.num_layers": 1,
  "model.hidden_dim": 8,
  "norm.name": "batch_norm",
  "data.name": "digits",
  "optimizer.learning_rate": 0.1,
  "train.ema_decay": 0.75,
  **{
    key: value
    for key, value in support.DECODER.items()
    if not key.startswith(("model.", "data."))
  },
}


def _config(**changes):
  base = configure.load("configs/default.py")
  return configure.override(base, TINY | changes)


def _assert_close(got, want):
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("warmup", [False, True])
def test_it_is_the_average_of_weights_and_statistics(warmup):
  """Against float64, from the initial weights; what is frozen is not in it."""
  config = _config(**{"train.ema_warmup": warmup, "train.output_frozen": True})
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, data = build.hyper(config), build.dataset(config)
  state = jax.jit(initialize)(hyper)
  take = jax.jit(lambda *given: step.train_step(recipe, *given)[0])

  def learned(state):
    params = {k: v for k, v in state.params.items() if k != "head"}
    tree = {"params": params, "stats": state.stats}
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)

  want = learned(state)
  for t in range(4):
    state = take(state, data.train_batch(0, t, 8), hyper)
    d = min(0.75, (1 + t) / (10 + t)) if warmup else 0.75
    want = jax.tree.map(
      lambda e, w, d=d: d * e + (1 - d) * w, want, learned(state)
    )
  _assert_close(state.average, want)
  # An evaluation reads it where it is asked to, and the frozen head as it is.
  asked = recipe._replace(weights="ema")
  by_hand = state._replace(
    params=state.params | state.average["params"], stats=state.average["stats"]
  )
  batch = next(data.evaluation_batches(30))
  got, want, other = (
    float(step.evaluation_step(r, s, batch, hyper)["loss"])
    for r, s in ((asked, state), (recipe, by_hand), (recipe, state))
  )
  assert got == want != other


def test_counters_are_taken_as_they_are():
  old = average.start({"w": jnp.float32(1.0)}, {"count": jnp.int32(3)})
  new = average.update(
    old, {"w": jnp.float32(2.0)}, {"count": jnp.int32(4)}, 0.5
  )
  assert new["stats"]["count"] == 4
  assert new["params"]["w"] == 1.5


def test_a_decay_moves_no_program():
  configs = [_config(**{"train.ema_decay": d}) for d in (0.9, 0.99)]
  assert len({build.program_key(config) for config in configs}) == 1
  assert len({configure.run_id(config) for config in configs}) == 2


def test_a_state_without_it_is_saved_as_before():
  config = _config(**{"train.ema_decay": 0.0})
  _, initialize = program.recipe_and_initialize(config)
  state = jax.eval_shape(initialize, build.hyper(config))
  assert set(state.branches()) == {
    "step", "params", "stats", "grad_stats", "optimizer_state", "diverged_at",
  }  # fmt: skip


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"train.ema_decay": 1.0}, r"train.ema_decay=1.0 must be .* below 1"),
    (
      {"train.ema_decay": 0.0, "evaluate.weights": "ema"},
      r"evaluate.weights='ema': there is no average; set train.ema_decay above",
    ),
    (
      {"train.ema_decay": 0.0, "train.ema_warmup": True},
      r"train.ema_warmup=True: there is no average",
    ),
    ({"evaluate.weights": "average"}, r"allowed: 'trained', 'ema'"),
  ],
)
def test_bad_options(changes, message):
  with pytest.raises(errors.UserError, match=message):
    check.check(_config(**changes))


def test_two_averages_are_one_too_many():
  config = _config(
    **{
      "optimizer.name": "tests.objectives.toys:averaged_sgd",
      "optimizer.learning_rate": 0.1,
      "evaluate.weights": "ema",
    }
  )
  with pytest.raises(errors.UserError, match="evaluates at parameters of its"):
    preview.preview(config)


# Everything that recipes of image networks add, in one run.
RECIPE = support.RESNET | {
  "model.drop_path_rate": 0.2,
  "optimizer.learning_rate": 0.01,
  "train.mixup_alpha": 0.8,
  "train.cutmix_alpha": 1.0,
  "train.label_smoothing": 0.1,
  "train.layer_decay": 0.8,
  "train.ema_decay": 0.5,
  "evaluate.weights": "ema",
  "evaluate.num_batches": 0,
}


def test_a_run_with_the_whole_recipe(tmp_path):
  """It trains, resumes bit for bit, and opens with what was evaluated."""
  base = configure.load("configs/default.py")
  config = configure.override(base, RECIPE)
  straight, cut = tmp_path / "straight", tmp_path / "cut"
  result = train.run(config, straight)
  first, *_, last = support.rows(straight, "eval")
  assert last["loss"] < first["loss"]
  # As an interrupted run leaves it: up to the second checkpoint.
  train.run(config, cut)
  ended = cut / files.CHECKPOINTS / "12"
  ended.rename(tmp_path / "gone")
  (cut / files.RESULT).unlink()
  again = train.run(config, cut)
  assert files.read_json(cut / files.RUN)["resumed_at_steps"] == [8]
  assert again["metrics"] == result["metrics"]
  assert support.rows(cut, "eval") == support.rows(straight, "eval")

  run = normjax.load_run(straight)
  assert {f"eval/{k}": v for k, v in run.evaluate().items()} == {
    k: v for k, v in result["metrics"].items() if k.startswith("eval/")
  }
  head = run.state.average["params"]["head"]["kernel"]
  np.testing.assert_array_equal(run.model.head.kernel[...], head)
  trained = normjax.load_run(
    straight, overrides={"evaluate.weights": "trained"}
  )
  kernel = trained.state.params["head"]["kernel"]
  np.testing.assert_array_equal(trained.model.head.kernel[...], kernel)
  assert np.any(head != kernel)
  with pytest.raises(errors.UserError, match="there is no average"):
    _ = normjax.load_run(straight, overrides={"train.ema_decay": 0.0}).model
