"""The order of the loop, and what it leaves on disk."""

import errno
import json
import shutil

import orbax.checkpoint as ocp
import pytest

from normjax import build, errors, train
from normjax.record import files
from normjax.train import program
from tests import support


def _events(config, directory):
  events = []
  train.run(config, directory, lambda *event: events.append(event))
  return events


def test_the_order_is_evaluate_save_step_log(tmp_path):
  config = support.tiny(
    {"train.num_steps": 4, "evaluate.every_steps": 2, "log.every_steps": 2}
    | {"checkpoint.every_steps": 2}
  )
  assert _events(config, tmp_path) == [
    ("evaluate", 0),
    ("save", 0),
    ("step", 0),
    ("step", 1),  # A row is fetched while the next step runs.
    ("log", 0),
    ("evaluate", 2),
    ("save", 2),
    ("step", 2),
    ("step", 3),
    ("log", 2),
    ("evaluate", 4),
    ("save", 4),
  ]


def test_a_finished_run_is_not_run_again(tmp_path):
  config = support.tiny({"train.num_steps": 2})
  first = train.run(config, tmp_path)
  assert _events(config, tmp_path) == []
  assert train.run(config, tmp_path) == first


def test_result_and_rows_say_what_happened(tmp_path):
  config = support.tiny()
  result = train.run(config, tmp_path)
  assert result["state"] == "done"
  assert result["steps"] == 12
  assert result["diverged_at_step"] is None
  train_rows = support.rows(tmp_path, "train")
  assert [row["step"] for row in train_rows] == list(range(12))
  assert set(train_rows[0]) == {
    "step", "kind", "loss", "accuracy", "grad_norm", "update_norm",
    "learning_rate",
  }  # fmt: skip
  evaluations = support.rows(tmp_path, "eval")
  assert [row["step"] for row in evaluations] == [0, 4, 8, 12]
  # Both describe the state that has taken no step, on other data.
  assert abs(train_rows[0]["loss"] - evaluations[0]["loss"]) < 0.2
  assert result["metrics"]["eval/loss"] == evaluations[-1]["loss"]
  # Beside the metrics: how many tokens they are means of.
  assert result["eval_examples"] == evaluations[-1]["eval_examples"] > 0
  assert "eval/eval_examples" not in result["metrics"]
  assert evaluations[-1]["loss"] < evaluations[0]["loss"]
  status = files.read_json(tmp_path / files.STATUS)
  assert status["state"] == "done"
  run = files.read_json(tmp_path / files.RUN)
  assert run["num_params"] == result["num_params"] > 0
  # AdamW holds two float32 moments a parameter, and an int32 count.
  assert run["optimizer_state_bytes"] >= 8 * run["num_params"]
  assert run["provenance"]["packages"]["jax"]
  assert run["provenance"]["kernels"] == {
    "attention": ["reference"],
    "rms_norm": ["xla"],
  }
  refused = run["provenance"]["kernels_refused"]["rms_norm"]
  assert refused["pallas_tpu"] == ["needs a TPU, this is cpu"]
  assert run["provenance"]["matmul_precision"] == "float32"
  assert 0.0 <= result["data_wait_s"] <= result["train_s"]
  assert result["data_wait_share"] == result["data_wait_s"] / result["train_s"]
  assert result["peak_rss_bytes"] > 0
  assert "mfu" not in result, "a CPU has no peak that its vendor states"


def test_divergence_is_a_result_with_its_step(tmp_path):
  config = support.tiny({"train.max_loss": 5.0, "train.num_steps": 30})
  # A uniform guess over 256 bytes costs log 256 = 5.5 nats.
  result = train.run(config, tmp_path)
  assert result["state"] == "diverged"
  assert result["diverged_at_step"] == 0
  assert result["steps"] < 30
  assert files.read_json(tmp_path / files.STATUS)["state"] == "diverged"


def test_divergence_by_a_huge_learning_rate(tmp_path):
  config = support.tiny(
    {"optimizer.learning_rate": 1e30, "train.gradient_clip": 0.0}
    | {"train.num_steps": 30, "schedule.warmup_fraction": 0.0}
  )
  result = train.run(config, tmp_path)
  assert result["state"] == "diverged"
  assert 1 <= result["diverged_at_step"] < 30
  losses = [row["loss"] for row in support.rows(tmp_path, "train")]
  step = result["diverged_at_step"]
  assert all(loss is not None and loss <= 100 for loss in losses[:step])
  assert losses[step] is None or losses[step] > 100


def _interrupted(config, directory, at_step):
  """Stops a run as Ctrl-C would, just before a step."""

  def stop(name, step):
    if (name, step) == ("step", at_step):
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    train.run(config, directory, stop)
  assert files.read_json(directory / files.STATUS)["state"] == "interrupted"


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
  config = support.tiny({"train.num_steps": 12})
  train.run(config, tmp_path / "straight")
  _interrupted(config, tmp_path / "hurt", 10)
  newest = tmp_path / "hurt" / files.CHECKPOINTS / "8"
  assert newest.is_dir()
  shutil.rmtree(newest / "state")
  train.run(config, tmp_path / "hurt")
  run = files.read_json(tmp_path / "hurt" / files.RUN)
  assert run["resumed_at_steps"] == [4]
  assert "checkpoint 8 cannot be read" in run["problems"][0]
  assert (tmp_path / "hurt" / "ckpt-unreadable-8").is_dir()
  for kind in ("train", "eval"):
    assert support.rows(tmp_path / "hurt", kind) == support.rows(
      tmp_path / "straight", kind
    )


def test_a_full_disk_is_an_oserror_and_the_run_goes_on_later(
  tmp_path, monkeypatch
):
  """TensorStore reports it as a ValueError from a background thread."""
  config = support.tiny()

  def full(*arguments, **options):
    raise ValueError("RESOURCE_EXHAUSTED: Failed: No space left on device")

  with monkeypatch.context() as patch:
    patch.setattr(ocp.CheckpointManager, "save", full)
    with pytest.raises(OSError, match="No space left") as caught:
      train.run(config, tmp_path)
  assert caught.value.errno == errno.ENOSPC
  assert files.read_json(tmp_path / files.STATUS)["state"] == "failed"
  assert train.run(config, tmp_path)["state"] == "done"


def test_a_damaged_metrics_file_is_repaired_and_said(tmp_path):
  config = support.tiny({"train.num_steps": 12})
  train.run(config, tmp_path / "straight")
  _interrupted(config, tmp_path / "hurt", 10)
  path = tmp_path / "hurt" / files.METRICS
  path.write_text(path.read_text() + '{"step": 9, "ki')
  train.run(config, tmp_path / "hurt")
  run = files.read_json(tmp_path / "hurt" / files.RUN)
  assert "is not a metric row" in run["problems"][0]
  assert support.rows(tmp_path / "hurt", "train") == support.rows(
    tmp_path / "straight", "train"
  )


@pytest.mark.parametrize(
  "keep", [lambda lines: [], lambda lines: [*lines[:3], *lines[4:]]]
)
def test_rows_that_are_gone_before_a_checkpoint_are_said(tmp_path, keep):
  config = support.tiny({"train.num_steps": 8})
  _interrupted(config, tmp_path, 6)
  path = tmp_path / files.METRICS
  path.write_text("".join(keep(path.read_text().splitlines(keepends=True))))
  train.run(config, tmp_path)
  run = files.read_json(tmp_path / files.RUN)
  assert run["resumed_at_steps"] == [4]
  assert "metrics.jsonl lacks rows of steps before 4" in run["problems"][0]


@pytest.mark.parametrize(
  "held", [3, [], "x", {"problems": None}, {"resumed_at_steps": 3}]
)
def test_a_run_file_that_is_none_is_written_anew_and_said(tmp_path, held):
  config = support.tiny({"train.num_steps": 4})
  files.write_json(tmp_path / files.RUN, held)
  assert train.run(config, tmp_path)["state"] == "done"
  run = files.read_json(tmp_path / files.RUN)
  (problem,) = run["problems"]
  assert problem.startswith(f"{tmp_path / files.RUN} ")
  assert problem.endswith("; it was written anew")


@pytest.mark.parametrize("lost", ["state", "metrics"])
def test_a_result_that_lacks_something_is_none(tmp_path, lost):
  config = support.tiny({"train.num_steps": 4})
  want = train.run(config, tmp_path)
  path = tmp_path / files.RESULT
  files.write_json(path, {k: v for k, v in want.items() if k != lost})
  again = train.run(config, tmp_path)
  assert again["metrics"] == want["metrics"]
  assert path.with_name("result.json.corrupt").exists()


def test_half_a_result_is_none(tmp_path):
  config = support.tiny({"train.num_steps": 4})
  want = train.run(config, tmp_path)
  path = tmp_path / files.RESULT
  path.write_text(path.read_text()[:40])
  assert train.run(config, tmp_path)["metrics"] == want["metrics"]
  assert json.loads(path.read_text())["state"] == "done"


def test_a_failure_is_in_the_status_and_the_rest_is_kept(tmp_path):
  config = support.tiny()

  def fail(name, step):
    if (name, step) == ("step", 6):
      raise RuntimeError("the disk is on fire")

  with pytest.raises(RuntimeError, match="on fire"):
    train.run(config, tmp_path, fail)
  status = files.read_json(tmp_path / files.STATUS)
  assert status["state"] == "failed"
  assert "the disk is on fire" in status["message"]
  assert train.run(config, tmp_path)["state"] == "done"


def test_runs_that_differ_in_scalars_compile_once(tmp_path, monkeypatch):
  compiled, traced = [], []
  real, optimizer = program._trace, build.optimizer

  def make(config, values=None, *rest, **options):
    traced.extend([] if values is None else [values])
    return optimizer(config, values, *rest, **options)

  monkeypatch.setattr(build, "optimizer", make)
  monkeypatch.setattr(program, "_PROGRAMS", {})
  monkeypatch.setattr(
    program, "_trace", lambda *given: compiled.append(1) or real(*given)
  )
  losses = [
    train.run(support.tiny_mlp(change), tmp_path / str(index))["metrics"]
    for index, change in enumerate(
      (
        {"optimizer.learning_rate": 1e-3},
        {"optimizer.learning_rate": 1e-2},
        {"optimizer.weight_decay": 0.0, "seed": 3},
        {"train.gradient_clip": 0.0, "train.num_steps": 9},
      )
    )
  ]
  assert len(compiled) == 1
  # Of traced scalars: for the first state, and for the step.
  assert len(traced) == 2
  assert len({loss["eval/loss"] for loss in losses}) == 4


def test_the_last_state_is_evaluated_under_corruption(tmp_path):
  config = support.tiny_resnet(
    **{"evaluate.corruptions": ("contrast", "gaussian_noise_2")}
  )
  result = train.run(config, tmp_path / "straight")
  *earlier, last = support.rows(tmp_path / "straight", "eval")
  assert [row["step"] for row in earlier] == [0, 4, 8]
  assert not any("/" in key for row in earlier for key in row)
  # The values of a program that is given the corrupted images.
  compiled, _ = program.get(config)
  dataset = build.dataset(config)
  training = [
    dataset.train_batch(config.seed, step, config.train.batch_size)
    for step in range(config.train.num_steps)
  ]
  state = compiled.initialize(build.hyper(config), training[0])
  for batch in training:
    state, _ = compiled.step(state, batch, build.hyper(config))
  sums = [
    compiled.evaluate(state, batch, build.hyper(config))
    for batch in dataset.corrupted("contrast_5").evaluation_batches(8, 2)
  ]
  for name in ("loss", "accuracy"):
    assert last[f"{name}/contrast_5"] == pytest.approx(
      sum(float(s[name]) for s in sums) / 16, rel=1e-6
    )
  by_severity = [last[f"accuracy/contrast_{s}"] for s in (1, 2, 3, 4, 5)]
  mean = (sum(by_severity) / 5 + last["accuracy/gaussian_noise_2"]) / 2
  assert last["mean_corrupted_accuracy"] == pytest.approx(mean)
  assert last["relative_corrupted_accuracy"] == pytest.approx(
    mean / last["accuracy"]
  )
  assert (
    result["metrics"]["eval/mean_corrupted_accuracy"]
    == (last["mean_corrupted_accuracy"])
  )
  # Neither the program nor the training knows of it.
  clean = support.tiny_resnet()
  assert build.program_key(clean) == build.program_key(config)
  train.run(clean, tmp_path / "clean")
  assert support.rows(tmp_path / "clean", "train") == support.rows(
    tmp_path / "straight", "train"
  )

  # Stopped after the last evaluation was saved, and before.
  for index, event in enumerate((("save", 12), ("evaluate", 12))):
    path = tmp_path / f"stopped-{index}"

    def stop(*seen, event=event):
      if seen == event:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
      train.run(config, path, stop)
    assert train.run(config, path)["metrics"] == result["metrics"]
    assert support.rows(path, "eval") == [*earlier, last]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"train.batch_size": 0}, "train.batch_size=0 must be at least 1"),
    (
      {"train.accumulation_steps": 3},
      "train.batch_size=8 is not a multiple of train.accumulation_steps=3",
    ),
    ({"train.precision": "float8"}, "train.precision='float8'; allowed"),
    ({"train.num_devices": 99}, "train.num_devices=99; allowed: 0"),
    ({"norm.impl": "pallas_tpu"}, "rms_norm: none of the implementations"),
    ({"schedule.name": "cosine"}, "unknown schedule 'cosine'"),
    ({"log.probes": ("(",)}, r"log.probes: '\(' is not a regular expression"),
    ({"optimizer.learning_rate": -1.0}, "learning_rate"),
    (
      {"evaluate.corruptions": ("fog_6",)},
      "evaluate.corruptions: .* severity 6 is outside 1 to 5",
    ),
    (
      {"evaluate.corruptions": ("fgo",)},
      "evaluate.corruptions: unknown corruption 'fgo'. Did you mean 'fog'",
    ),
    (
      {"evaluate.corruptions": ("fog",)},
      "evaluate.corruptions=.*: data 'shakespeare' gives tokens",
    ),
  ],
)
def test_bad_values_are_refused_before_anything_runs(tmp_path, change, message):
  with pytest.raises(errors.UserError, match=message):
    train.run(support.tiny(change), tmp_path)
  assert not (tmp_path / files.METRICS).exists()


def test_a_model_that_cannot_read_the_data_is_refused(tmp_path):
  config = support.tiny_resnet(**{"data.name": "wine"})
  message = "model 'cifar_resnet' reads images; data 'wine' gives features"
  with pytest.raises(errors.UserError, match=message):
    train.run(config, tmp_path)
