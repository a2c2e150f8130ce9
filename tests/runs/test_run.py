"""A run that was trained, opened again."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

import normjax
from normjax import build, configure, errors, metrics, train
from normjax.record import files
from normjax.runs import export
from tests import support

CONFIG = {"train.num_steps": 6, "checkpoint.every_steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  path = tmp_path_factory.mktemp("runs") / "run"
  # As the tests compile, which begin after this: bits depend on it.
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", True)
  train.run(support.tiny(CONFIG), path)
  jax.config.update("jax_disable_most_optimizations", before)
  return path


@pytest.fixture(scope="module")
def run(directory):
  return normjax.load_run(directory)


def listing(directory):
  """Every file with what a writer would change."""
  return {
    path: path.stat().st_mtime_ns
    for path in directory.rglob("*")
    if path.is_file()
  }


def test_evaluating_again_gives_the_result_bit_for_bit(directory, run):
  before = listing(directory)
  means = run.evaluate()
  want = files.read_json(directory / files.RESULT)["metrics"]
  assert {f"eval/{name}": value for name, value in means.items()} == {
    name: value for name, value in want.items() if name.startswith("eval/")
  }
  assert run.result["state"] == run.record.state == "done"
  assert listing(directory) == before


def test_the_model_is_the_one_that_was_evaluated(run):
  batch = next(run.data.evaluation_batches(8))
  logits = run.model(batch["inputs"])
  one = run.evaluate(num_batches=1)
  losses = -jnp.take_along_axis(
    jax.nn.log_softmax(logits), batch["targets"][..., None], -1
  )[..., 0]
  weight = batch["weight"]
  loss = float((losses * weight).sum() / weight.sum())
  assert one["loss"] == pytest.approx(loss, rel=1e-5)


def test_other_data_and_own_metrics(run):
  def first_token(output, batch):
    del output
    return (batch["inputs"] == 0).astype(jnp.float32)

  means = run.evaluate(
    data={"name": run.config.data.name, "sequence_length": 8},
    metrics=["perplexity", first_token, "ffn_hard_rank(tokens_per_feature=1)"],
    num_batches=1,
  )
  assert means["ffn_hard_rank(tokens_per_feature=1)"] > 1
  assert means["perplexity"] == pytest.approx(np.exp(means["loss"]))
  assert "first_token" in means
  with pytest.raises(errors.UserError, match="digits.*reads='images'"):
    run.evaluate(data="digits")
  with pytest.raises(errors.UserError, match="no split 'dev'"):
    run.evaluate(split="dev")
  # Another number under a name that is taken would be read as the run's own.
  for name in ("loss", "first_token"):
    own = metrics.Metric(name, lambda output, batch: batch["inputs"] == 1)
    with pytest.raises(errors.UserError, match=f"called '{name}'; that name"):
      run.evaluate(metrics=[first_token, own])
  with pytest.raises(errors.UserError, match="num_batches=-1 must be at least"):
    run.evaluate(num_batches=-1)
  with pytest.raises(errors.UserError, match="tokens; needed: .* or more"):
    run.evaluate(metrics=["ffn_soft_rank"], num_batches=1)


def test_data_without_splits_says_so(run):
  class Own:
    name, reads, targets = "own", "tokens", "classes"
    model_options = run.data.model_options

  with pytest.raises(
    errors.UserError, match=r"split='test'.*own.*'validation'"
  ):
    run.evaluate(data=Own(), split="test")


def test_a_run_evaluates_on_the_split_of_its_config(run, tmp_path):
  config = support.tiny(CONFIG | {"evaluate.split": "tuning"})
  # One program serves the runs that choose and those that are measured.
  assert build.program_key(config) == build.program_key(support.tiny(CONFIG))
  chosen = train.run(config, tmp_path / "run")
  assert (chosen["split"], run.result["split"]) == ("tuning", "validation")
  again = normjax.load_run(tmp_path / "run")
  told = files.read_json(tmp_path / "run" / files.RUN)
  assert told["split"] == "tuning"
  assert again.evaluate()["loss"] == chosen["metrics"]["eval/loss"]
  # Both were trained alike.
  for split in ("train", "tuning", "validation"):
    assert again.evaluate(split=split) == run.evaluate(split=split)
  losses = [run.evaluate(split=s)["loss"] for s in ("tuning", "validation")]
  assert losses[0] != losses[1]
  with pytest.raises(errors.UserError, match="no split 'test'; allowed: 'tra"):
    run.evaluate(split="test")


def test_checkpoints_by_step(directory, run):
  assert run.steps == (4, 6)
  assert run.step == 6
  early = normjax.load_run(directory, step=4)
  assert early.step == 4
  (path, late), *_ = run.parameters("head|embed").items()
  assert (early.parameters()[path] != late).any()
  with pytest.raises(errors.RunError, match=r"no checkpoint of step 5.*4, 6"):
    normjax.load_run(directory, step=5)


def test_metrics_are_columns(run):
  columns = run.metrics()
  assert {len(column) for column in columns.values()} == {len(columns["step"])}
  assert columns["step"].dtype == np.int64
  is_eval = columns["kind"] == "eval"
  assert np.isnan(columns["accuracy"]).any() or not is_eval.all()
  assert np.isfinite(columns["loss"][is_eval]).all()
  assert np.isnan(columns["grad_norm"][is_eval]).all()
  assert run.metrics("train")["step"].tolist() == [0, 1, 2, 3, 4, 5]
  with pytest.raises(errors.UserError, match="rows of kind 'eval', 'train'"):
    run.metrics("test")


def test_parameters_by_pattern(run):
  names = [*run.parameters("attention/.*kernel")]
  assert names
  assert all("attention/" in name for name in names)
  with pytest.raises(errors.UserError, match="nothing matches; there are: "):
    run.parameters("decoder9")
  with pytest.raises(errors.UserError, match="no regular expression"):
    run.parameters("(")


def test_safetensors_hold_parameters_and_where_they_are_from(run, tmp_path):
  path = run.save(tmp_path / "new" / "model.safetensors")
  tensors = safetensors.load_file(path)
  for name, value in run.parameters().items():
    np.testing.assert_array_equal(tensors[f"params/{name}"], value)
  size = int.from_bytes(path.read_bytes()[:8], "little")
  told = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]
  assert told["run_id"] == run.run_id
  assert json.loads(told["config"]) == configure.to_dict(run.config)
  assert (told["step"], told["normjax"]) == ("6", normjax.__version__)
  with pytest.raises(errors.RunError, match=r"cannot write .*model.safeten"):
    run.save(path / "inside")


def test_a_device_is_not_replaced_and_a_link_stays_one(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  with pytest.raises(errors.RunError, match="pipe: it is no file"):
    export.save(tmp_path / "pipe", {}, "id", 0, support.tiny())
  (tmp_path / "link").symlink_to("real")
  export.save(tmp_path / "link", {}, "id", 0, support.tiny())
  assert (tmp_path / "link").is_symlink()
  assert (tmp_path / "real").is_file()


def test_a_file_of_something_else_is_not_replaced_unasked(tmp_path):
  config, path = support.tiny(), tmp_path / "file"
  weights = {"params": {"a": np.ones(2, np.float32)}}
  export.save(path, weights, "id", 6, config)
  export.save(path, weights, "id", 6, config)  # The same again.
  for run_id, step in (("id", 7), ("other", 6)):
    with pytest.raises(
      errors.RunError, match=rf"run id at step 6, not run {run_id} at step"
    ):
      export.save(path, weights, run_id, step, config)
  path.write_text("notes")
  with pytest.raises(errors.RunError, match="has no weights of a run, not"):
    export.save(path, weights, "id", 6, config)
  assert path.read_text() == "notes"
  export.save(path, weights, "id", 6, config, overwrite=True)
  assert safetensors.load_file(path)["params/a"].tolist() == [1, 1]


def test_safetensors_keep_bfloat16(tmp_path):
  value = np.asarray([1.5, -2.0], ml_dtypes.bfloat16)
  config = support.tiny()
  variables = {"params": {"a": value}}
  export.save(tmp_path / "b", variables, "id", 0, config)
  assert safetensors.load_file(tmp_path / "b")["params/a"].dtype == value.dtype


def test_a_moved_unfinished_run_opens_and_an_empty_one_says_so(
  directory, tmp_path
):
  moved = tmp_path / "moved"
  shutil.copytree(directory, moved)
  (moved / files.RESULT).unlink()
  (moved / files.STATUS).unlink()
  run = normjax.load_run(moved)
  assert (run.record.state, run.result, run.step) == ("interrupted", None, 6)
  shutil.rmtree(moved / files.CHECKPOINTS)
  run = normjax.load_run(moved)
  assert len(run.metrics("eval")["loss"])
  with pytest.raises(errors.RunError, match="checkpoint.every_steps"):
    _ = run.model


def test_damaged_files_count_as_absent_and_are_named(
  directory, tmp_path, caplog
):
  shutil.copytree(directory, tmp_path / "run")
  (tmp_path / "run" / "result.json").write_text("{")
  with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
    file.write('{"step": 3')
  damaged = normjax.load_run(tmp_path / "run")
  assert damaged.result is None
  assert damaged.result is None
  assert len(damaged.metrics("eval")["step"])
  said = [record.message for record in caplog.records]
  assert len(said) == 2, "each once"
  assert "result.json is not valid JSON" in said[0]
  assert "is not a metric row; dropped" in said[1]


def test_a_damaged_checkpoint_is_named_with_the_one_before(directory, tmp_path):
  damaged = tmp_path / "damaged"
  shutil.copytree(directory, damaged)
  for path in (damaged / files.CHECKPOINTS / "6" / "state").rglob("*"):
    if path.is_file() and path.stat().st_size > 100:
      path.write_bytes(b"\0" * path.stat().st_size)
  before = listing(damaged)
  with pytest.raises(errors.RunError, match=r"ckpt/6 .*step=4\) opens"):
    _ = normjax.load_run(damaged).state
  assert listing(damaged) == before
  assert normjax.load_run(damaged, step=4).step == 4


def test_fewer_devices_than_it_was_trained_with(directory, tmp_path):
  moved = tmp_path / "moved"
  shutil.copytree(directory, moved)
  run = normjax.load_run(
    moved, overrides={"train.num_devices": jax.device_count() + 1}
  )
  assert run.evaluate(num_batches=1)["loss"] > 0


def without(directory, tmp_path, change):
  """The run with another run.json."""
  path = tmp_path / "changed"
  path.mkdir()
  value = files.read_json(directory / files.RUN)
  change(value)
  files.write_json(path / files.RUN, value)
  return path


def test_a_part_that_is_not_here_is_named(directory, tmp_path):
  path = without(
    directory,
    tmp_path,
    lambda value: value["config"].update(norm={"name": "nowhere_at_all:f"}),
  )
  (path / files.CHECKPOINTS / "6").mkdir(parents=True)
  with pytest.raises(
    errors.UserError, match=r"run.json.*nowhere_at_all.*sys.path"
  ):
    _ = normjax.load_run(path).model


@pytest.mark.parametrize(
  ("change", "text"),
  [
    (lambda v: v.update(schema=99), "run.json has schema 99.*newer"),
    (lambda v: v.pop("config"), "run.json has no 'config'"),
    (lambda v: v["config"].pop("schedule"), "run.json.*lacks 'schedule"),
  ],
)
def test_what_is_wrong_with_run_json_is_said(directory, tmp_path, change, text):
  with pytest.raises(errors.UserError, match=text):
    normjax.load_run(without(directory, tmp_path, change))


def test_what_is_no_run_says_what_it_is(directory, tmp_path):
  with pytest.raises(errors.RunError, match="does not exist"):
    normjax.load_run(tmp_path / "nothing")
  with pytest.raises(errors.RunError, match=r"has no run\.json"):
    normjax.load_run(tmp_path)
  with pytest.raises(errors.RunError, match="is a folder of 1 runs"):
    normjax.load_run(directory.parent)
  with pytest.raises(errors.RunError, match="is a run.*load_run"):
    normjax.load_sweep(directory)
  (tmp_path / "plan.json").write_text("{}")
  with pytest.raises(errors.RunError, match=r"is a sweep.*load_sweep"):
    normjax.load_run(tmp_path)


def test_the_record_has_throughput_and_work(directory, run):
  result = run.result
  step_s = result["step_ms_median"] / 1e3
  assert result["examples_per_s"] == pytest.approx(8 / step_s)
  assert result["tokens_per_s"] == pytest.approx(8 * 16 / step_s)
  # Of a matrix product of b t tokens and n numbers, forward and backward.
  assert result["flops_per_step"] > 2 * 8 * 16 * 16 * 16
  told = files.read_json(directory / files.RUN)
  assert told["flops_per_step"] == result["flops_per_step"]


def test_data_that_has_changed_is_said(directory, tmp_path, caplog):
  path = without(
    directory,
    tmp_path,
    lambda v: v["provenance"]["data"].update(fingerprint="0" * 64),
  )
  assert normjax.load_run(path).data
  assert "the data has changed: its fingerprint was 0000" in caplog.text


def test_data_that_was_cut_otherwise_is_said(directory, tmp_path, caplog):
  path = without(
    directory,
    tmp_path,
    lambda v: v["provenance"]["data"]["bytes"].pop("tuning"),
  )
  assert normjax.load_run(path).data
  assert "the data has changed: bytes: {'train': " in caplog.text
