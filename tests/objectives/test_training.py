"""Objectives, metrics and outputs from a config to a result."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import build, cli, configure, errors, train
from normjax.train import check, preview, program, step
from tests import support

TOYS = "tests.objectives.toys"
REGRESSION = {
  **{k: v for k, v in support.DECODER.items() if "data." not in k},
  "model.name": "mlp",
  "model.num_layers": 1,
  "model.hidden_dim": 8,
  "data.name": f"{TOYS}:line",
  "optimizer.learning_rate": 0.05,
}
del REGRESSION["model.num_heads"], REGRESSION["model.model_dim"]


def _config(**changes):
  overrides = {
    key: value
    for key, value in REGRESSION.items()
    # They are options of the parts that are replaced.
    if f"{key.partition('.')[0]}.name" not in changes
  } | changes
  return configure.override(configure.load("configs/default.py"), overrides)


def test_a_regression_from_its_data_to_its_result(tmp_path):
  """The data's targets choose the loss; its sums become columns by name."""
  config = _config(
    **{
      "evaluate.num_batches": 0,
      "evaluate.metrics": (f"{TOYS}:squared_length",),
    }
  )
  check.check(config)
  result = train.run(config, tmp_path)
  first, *_, last = support.rows(tmp_path, "eval")
  assert {*last} - {"step", "kind", "eval_examples"} == {
    "loss",
    "absolute_error",
    "root_mean_squared_error",
    "squared_length",
  }
  assert last["loss"] < 0.7 * first["loss"]
  assert last["root_mean_squared_error"] == math.sqrt(last["loss"])
  assert {*result["metrics"]} == {*preview.preview(config).metrics}
  # Thirty examples in batches of eight: the last one is padded.
  assert len(list(build.dataset(config).evaluation_batches(8))) == 4


def test_an_evaluation_where_nothing_counts_is_named(tmp_path, monkeypatch):
  config = _config()
  dataset = type(build.dataset(config))
  batches = dataset.evaluation_batches

  def weightless(self, *arguments):
    for batch in batches(self, *arguments):
      yield {**batch, "weight": np.zeros_like(batch["weight"])}

  monkeypatch.setattr(dataset, "evaluation_batches", weightless)
  with pytest.raises(errors.DataError, match="data 'line': .* add up to 0"):
    train.run(config, tmp_path)


def test_an_objective_from_outside_with_a_traced_option():
  name = f"{TOYS}:huber"
  narrow, wide = (
    _config(**{"objective.name": name, "objective.delta": delta})
    for delta in (0.1, 10.0)
  )
  assert build.program_key(narrow) == build.program_key(wide)
  assert configure.run_id(narrow) != configure.run_id(wide)
  assert "train/outliers" in preview.preview(wide).metrics
  found = {}
  recipe, initialize = program.recipe_and_initialize(narrow)
  (batch,) = build.dataset(narrow).evaluation_batches(30)
  state = initialize(build.hyper(narrow))
  for label, config in (("narrow", narrow), ("wide", wide)):
    hyper = build.hyper(config)
    sums = step.evaluation_step(recipe, state, batch, hyper)
    found[label] = {key: float(value) for key, value in sums.items()}
  assert found["wide"]["outliers"] == 0 < found["narrow"]["outliers"]
  assert found["wide"]["loss"] > found["narrow"]["loss"]
  # Far from the kink it is half the squared error.
  squared = _config(**{"objective.name": "squared_error"})
  recipe, _ = program.recipe_and_initialize(squared)
  sums = step.evaluation_step(recipe, state, batch, build.hyper(squared))
  assert found["wide"]["loss"] == pytest.approx(float(sums["loss"]) / 2)


def test_a_model_returns_more_than_logits():
  """Auxiliary losses are minimized and logged; metrics see the features."""
  config = configure.override(
    configure.load("configs/default.py"),
    {
      "data.name": f"{TOYS}:line",
      "model.name": f"{TOYS}:Routed",
      "train.accumulation_steps": 2,
      "train.gradient_clip": 0.0,
      "evaluate.metrics": (f"{TOYS}:twice_squared",),
    },
  )
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, data = build.hyper(config), build.dataset(config)
  state = jax.jit(initialize)(hyper)
  batch = data.train_batch(0, 0, 8)
  _, metrics = jax.jit(lambda *given: step.train_step(recipe, *given))(
    state, batch, hyper
  )

  def minimized(linear):
    z = batch["inputs"] @ linear["kernel"] + linear["bias"]
    loss, squares = jnp.mean((z - batch["targets"]) ** 2), jnp.mean(z**2)
    return loss + 0.1 * squares, (loss, squares)

  gradient, (loss, squares) = jax.grad(minimized, has_aux=True)(
    state.params["linear"]
  )
  want = {
    "loss": loss,  # The plain one.
    "imbalance": 0.1 * squares,
    "grad_norm": np.sqrt(sum(jnp.sum(g**2) for g in gradient.values())),
  }
  sums = step.evaluation_step(recipe, state, batch, hyper)
  for name, value in want.items():
    assert float(metrics[name]) == pytest.approx(float(value), rel=1e-5)
    if name in sums:
      assert float(sums[name]) / 8 == pytest.approx(float(value), rel=1e-5)
  # Of each example the sum of two values, doubled and squared.
  assert float(sums["twice_squared"]) / 8 == pytest.approx(float(8 * squares))
  assert {"train/imbalance", "eval/imbalance"} < {
    *preview.preview(config).metrics
  }


BAD = [
  (
    {"optimizer.name": "optax:adamw"},
    "optimizer.learning_rate=None: optimizer 'optax:adamw' needs one; allowed",
  ),
  (
    {"optimizer.name": "optax:polyak_sgd"},
    "optimizer 'optax:polyak_sgd' takes no learning_rate, which schedules",
  ),
  ({"objective.name": "crossentropy"}, "Did you mean 'cross_entropy'"),
  (
    {"data.name": "digits", "objective.name": "squared_error"},
    "objective.name='squared_error' reads targets that are values; those of"
    " data 'digits' are classes. Allowed for them: 'cross_entropy'",
  ),
  (
    {"data.name": f"{TOYS}:pairs"},
    "data 'line' has targets that are 'pairs'; without objective.name, allowed:"
    " classes, values",
  ),
  (
    {"objective.name": "cross_entropy"},
    "'cross_entropy' reads targets that are classes; those of data 'line' are",
  ),
  (
    {"train.z_loss": 0.1},
    "train.z_loss=0.1: objective 'squared_error' does not read it; allowed: 0",
  ),
  (
    {"objective.name": f"{TOYS}:huber", "objective.detla": 1.0},
    "unknown config key 'objective.detla'. Did you mean 'delta'",
  ),
  (
    {"objective.name": f"{TOYS}:line"},
    "gives Line; normjax.objectives.Objective is needed",
  ),
  (
    {"objective.name": f"{TOYS}:nothing"},
    f"objective.name '{TOYS}:nothing' cannot be imported: AttributeError",
  ),
  (
    {"evaluate.metrics": ("top5_acuracy",)},
    "evaluate.metrics: unknown metric 'top5_acuracy'. Did you mean 'top5_accu",
  ),
  (
    {"evaluate.metrics": ("perplexity",)},
    "evaluate.metrics: 'perplexity' reads targets that are classes; those of",
  ),
  (
    {"evaluate.metrics": (f"{TOYS}:by_output", f"{TOYS}:by_output")},
    "evaluate.metrics: 'by_output' is measured already, like",
  ),
  (
    {"evaluate.metrics": "perplexity"},
    "'evaluate.metrics' is tuple (()); got 'perplexity' (str)",
  ),
  (
    {"evaluate.corruptions": ("fog_1",)},
    "evaluate.corruptions=('fog_1',) needs accuracy, which the objective does"
    " not measure; it measures loss, absolute_error",
  ),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_what_does_not_fit_is_named(changes, message):
  with pytest.raises(errors.UserError) as error:
    check.check(_config(**changes))
  assert message in str(error.value)
  assert "\n" not in str(error.value)


# What only the shapes tell; a dry run traces them.
@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"evaluate.metrics": (f"{TOYS}:by_output",)},
      "'by_output' gives an array of shape (2,) per example and is no Metric",
    ),
    (
      {"evaluate.metrics": (f"{TOYS}:one_number",)},
      "'one_number' gives values of shape (); allowed: one value per example,"
      " shape (8,)",
    ),
    (
      {"evaluate.metrics": (f"{TOYS}:broken",)},
      "evaluate.metrics: 'broken' failed: KeyError",
    ),
    (
      {"evaluate.metrics": (f"{TOYS}:step",)},
      "two columns would be called 'step'",
    ),
    (
      {"evaluate.metrics": (f"{TOYS}:of_nothing",)},
      "is made of the mean 'acuracy'; there are: loss, absolute_error",
    ),
    (
      {
        "model.name": f"{TOYS}:Routed",
        "evaluate.metrics": (f"{TOYS}:imbalance",),
      },
      "two columns would be called 'imbalance'",
    ),
    (
      {"objective.name": f"{TOYS}:undeclared"},
      "gives loss, objective, outliers; it must give accuracy, loss, objective",
    ),
  ],
)
def test_what_the_shapes_tell(changes, message):
  config = _config(**changes)
  check.check(config)
  with pytest.raises(errors.UserError) as error:
    preview.preview(config)
  assert message in str(error.value)


@pytest.mark.parametrize(
  "command", [["train"], ["sweep", "--dry_run"]], ids=["train", "dry_run"]
)
@pytest.mark.parametrize(
  ("override", "message"),
  [
    ("objective.name=squared_error", "reads targets that are values; those of"),
    ("objective.name=nothing", "unknown objective 'nothing'"),
    ("evaluate.metrics=('nothing',)", "unknown metric 'nothing'"),
    ("evaluate.metrics=('no.where:f',)", "No module named 'no'"),
  ],
)
def test_the_command_line_ends_with_one_line(
  capsys, tmp_path, command, override, message
):
  name, *options = command
  out = f"--out={tmp_path}"
  file = "configs/sweeps/quickstart.py"
  assert cli.main([name, file, out, *options, f"--config.{override}"]) == 2
  said = capsys.readouterr().err
  assert message in said
  assert said.count("\n") == 1
  assert not list(tmp_path.rglob("run.json"))
