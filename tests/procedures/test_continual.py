"""Continual learning from a config: what is learned, measured and resumed."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import (
  build,
  configure,
  continual,
  errors,
  load_run,
  procedures,
  stopping,
  train,
)
from normjax.continual import reservoir, scores
from normjax.continual import step as steps
from normjax.data import task_examples
from normjax.record import due, files
from normjax.train import check, drawing, preview
from normjax.train.population import chunks, side_by_side
from normjax.train.request import Run
from tests import support

PLAIN = {
  "optimizer.name": "sgd",
  "optimizer.learning_rate": 0.05,
  "optimizer.momentum": 0.0,
  "schedule.name": "constant",
  "schedule.warmup_fraction": 0.0,
  "train.gradient_clip": 0.0,
}
TASKS = {
  "continual.learner": "derpp(alpha=0.2, beta=0.5)",
  "continual.buffer_size": 12,
  "continual.replay_size": 8,
  "continual.forward": "joint",
}


def _config(**changes):
  named = {key.replace("__", "."): value for key, value in changes.items()}
  return support.tiny_mlp(PLAIN, TASKS, named)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """A config, and the folder of a run that was never stopped."""
  config = _config()
  directory = tmp_path_factory.mktemp("straight")
  train.run(config, directory)
  return config, directory


def test_a_run_is_the_loop_of_continual_learning(straight):
  """The same batches by `continual.step`, with plain SGD: the same model."""
  config, directory = straight
  data = build.dataset(config)
  drawn = drawing.of(config)
  held = drawn.draw(build.hyper(config))
  learner = continual.make("derpp", alpha=0.2, beta=0.5)
  program = steps.Program(drawn.model, learner, "joint", data.classes_per_task)
  example = {
    "inputs": jax.ShapeDtypeStruct((8, 8, 1), jnp.float32),
    "labels": jax.ShapeDtypeStruct((), jnp.int32),
    "kept": jax.ShapeDtypeStruct((10,), jnp.float32),
  }
  state = steps.State(
    held["params"],
    held["stats"],
    program.optimizer(0.05).init(held["params"]),
    reservoir.empty(12, example),
    jnp.asarray(-1, jnp.int32),
    jnp.zeros((), jnp.int32),
  )
  hyper = steps.Hyper(0.05, 0.0, 0, learner.hyper)
  for number in range(config.train.num_steps):
    batch = data.train_batch(config.seed, number, config.train.batch_size)
    new = steps.Batch(*map(jnp.asarray, (batch["inputs"], batch["targets"])))
    task = np.int32(batch["targets"].max() // 2)
    state, loss = steps.compiled(
      program, 8 if number else 0, hyper, state, new, task,
      np.int32(config.seed),
    )  # fmt: skip
  ran = load_run(directory)
  last = support.rows(directory, "train")[-1]
  np.testing.assert_allclose(last["objective"], loss, rtol=1e-4)
  # Twelve steps of float32, compiled apart.
  for mine, theirs in zip(
    jax.tree.leaves((ran.state.params, ran.state.stats)),
    jax.tree.leaves((state.params, state.stats)),
    strict=True,
  ):
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(
    ran.state.memory["buffer"]["rows"]["labels"], state.buffer.rows["labels"]
  )


def test_what_is_measured(straight):
  config, directory = straight
  rows = {row["step"]: row for row in support.rows(directory, "eval")}
  # At the end of each of five tasks of twelve steps, beside every fourth step.
  assert {3, 5, 8, 10, 12} < rows.keys()
  matrix = np.array(
    [
      [rows[end][f"class_incremental/task_{t}"] for t in range(1, 6)]
      for end in (3, 5, 8, 10, 12)
    ]
  )
  result = files.read_json(directory / files.RESULT)
  measured = result["metrics"]
  for name, function in scores.SUMMARIES.items():
    np.testing.assert_allclose(
      measured[f"eval/class_incremental/{name}"], function(matrix)
    )
  assert {*measured} == {*preview.preview(config).metrics}
  told = files.read_json(directory / files.RUN)["tasks"]
  assert sorted(c for task in told for c in task) == [*range(10)]
  everything, _ = files.read_rows(directory / files.METRICS)
  told = configure.to_dict(config)
  assert files.lost_rows(everything, 12, told) == []
  # One row less, and it is said.
  less = [row for row in everything if row["step"] != 5]
  assert "5 of kind 'eval' in place of 6" in files.lost_rows(less, 12, told)[0]
  # The state is read as that of any run, with the labels that it learned.
  found = load_run(directory).evaluate()
  for name, value in found.items():
    assert measured[f"eval/{name}"] == value


def test_an_interrupted_run_goes_on_bitwise(straight, tmp_path):
  config, directory = straight

  def stop(*event):
    if event == ("step", 6):
      os.kill(os.getpid(), signal.SIGTERM)

  with stopping.interruptible(), pytest.raises(KeyboardInterrupt):
    train.run(config, tmp_path, stop)
  train.run(config, tmp_path)
  assert files.read_json(tmp_path / files.RUN)["resumed_at_steps"] == [7]
  for kind in ("train", "eval"):
    assert support.rows(tmp_path, kind) == support.rows(directory, kind)


def test_tasks_of_a_data_set():
  config = _config()
  data = build.dataset(config)
  plain = build.dataset(support.tiny_mlp())
  # Runs of other seeds are of the same data; run.json says the order apart.
  assert data.provenance == plain.provenance
  classes = np.concatenate(data.classes)
  assert sorted(classes) == [*range(10)]
  np.testing.assert_array_equal(classes[data.train[1]], plain.train[1])
  np.testing.assert_array_equal(
    classes[data.validation[1]], plain.validation[1]
  )
  tasks = [
    {*(data.train_batch(0, step, 8)["targets"] // 2).tolist()}
    for step in range(12)
  ]
  assert tasks == [{0}] * 3 + [{1}] * 2 + [{2}] * 3 + [{3}] * 2 + [{4}] * 2
  assert due.task_ends(5, 12) == (3, 5, 8, 10, 12)
  # Another seed has another order of classes, as a repetition needs.
  other = build.dataset(_config(seed=1))
  assert other.classes != data.classes
  # A task is gone through before an example of it comes again.
  long = task_examples.of(plain, 5, 0, 1000)
  size = len(long.of_task[0])
  drawn = np.concatenate([long.drawn(0, step, 1) for step in range(100)])
  assert size > 100
  assert len({*drawn.tolist()}) == 100


def test_runs_are_alone_however_many_a_population_may_have(tmp_path):
  runs = [Run(_config(seed=s), tmp_path / str(s)) for s in range(2)]
  (chunk,) = chunks.split(runs, 8)
  assert (chunk.size, len(chunk.runs)) == (1, 2)
  # A sweep's worker, too, trains one after the other, asked or not.
  for runner in (side_by_side.AUTO, side_by_side.POPULATION):
    assert runner.members([(r.config, r.directory) for r in runs], 8) == 1


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"continual__learner": "derp"}, "continual.learner='derp'.*'derpp'"),
    ({"continual__num_tasks": 3}, "num_tasks=3 does not divide the 10"),
    ({"train__num_steps": 4}, "num_tasks=5: they share train.num_steps=4"),
    ({"continual__replay_size": 13}, "replay_size=13 is more than .*=12"),
    ({"train__mixup_alpha": 0.2}, "train.mixup_alpha=0.2 with continual"),
    ({"train__label_smoothing": 0.1}, "label_smoothing=0.1 with continual"),
    ({"train__accumulation_steps": 2}, "train.accumulation_steps=2 with"),
    ({"continual__learner": ""}, "buffer_size=12: nothing reads it without"),
    ({"context__method": "erm", "data__name": "digits"}, "which domain"),
    ({"data__name": "diabetes"}, "in memory with classes as targets"),
  ],
)
def test_bad_configs_are_refused(changes, message):
  with pytest.raises(errors.UserError, match=message) as error:
    check.check(_config(**changes))
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"continual__penalty": 0.5}, "penalty=0.5: .* the model has none"),
    ({"norm__name": "power_norm"}, "statistics of the backward pass"),
    ({"norm__name": "adab2n", "norm__num_tasks": 4}, "norm.num_tasks=4"),
  ],
)
def test_bad_models_are_refused_in_shapes(changes, message):
  with pytest.raises(errors.UserError, match=message):
    preview.preview(_config(**changes))


def test_a_learner_without_memory_keeps_none():
  config = _config(continual__learner="finetune")
  shapes = jax.eval_shape(lambda: _memory(config))
  assert [*shapes] == ["last_class"]


def _memory(config):
  (procedure,) = procedures.of(config)
  return procedure.memory(build.dataset(config))
