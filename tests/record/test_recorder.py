"""What is told to a recorder, and which process writes it."""

import json

import pytest

from normjax import configure, errors
from normjax.record import files, lease
from normjax.record.directory import RunDirectory
from normjax.record.recorder import Recorder

STEP = {"loss": 2.0, "grad_norm": 1.0, "update/head/rms": 0.5}


@pytest.fixture
def config():
  base = configure.load("configs/default.py")
  return configure.override(base, {"evaluate.every_steps": 2})


def begin(path, config, step=0, *, process=None, modules=None, **told):
  """A recorder of a run that starts, or goes on, at a step."""
  directory = RunDirectory(path, configure.run_id(config))
  recorder = Recorder(directory, config, **(process or {"writes": True}))
  recorder.begin(
    step,
    resumed=step > 0,
    seconds={},
    sizes={"num_params": 3},
    facts={
      "program": "p",
      "provenance": {"own": {"modules": modules or {}}, **told},
    },
    problems=[],
  )
  return recorder


def tell(recorder, steps):
  """Some steps and evaluations, and the end."""
  for step in steps:
    if step % 2 == 0:
      recorder.evaluation(step, {"accuracy": 0.5}, 360.0)
    recorder.train(step, STEP)
  recorder.finish(steps[-1] + 1, None, None)
  recorder.close()


def test_what_is_told_is_on_disk(tmp_path, config):
  recorder = begin(tmp_path, config)
  tell(recorder, range(3))
  rows, problems = files.read_rows(tmp_path / files.METRICS)
  assert problems == []
  assert [(row["step"], row["kind"]) for row in rows][:3] == [
    (0, "eval"),
    (0, "train"),
    (0, "probe"),
  ]
  result = files.read_json(tmp_path / files.RESULT)
  assert result == recorder.result
  assert result["metrics"] == {
    "eval/accuracy": 0.5,
    "train/loss": 2.0,
    "train/grad_norm": 1.0,
  }
  assert (result["num_params"], result["steps"]) == (3, 3)
  # No metric, and a whole number as such.
  assert repr(result["eval_examples"]) == "360"
  assert files.read_json(tmp_path / files.STATUS)["state"] == "done"
  assert files.read_json(tmp_path / files.RUN)["program"] == "p"


def test_who_was_taken_over_writes_no_rows_or_checkpoints(
  tmp_path, config, monkeypatch
):
  run = tmp_path / "runs" / "r"
  with lease.Leases(tmp_path) as own, lease.Leases(tmp_path) as other:
    own.take("r")
    monkeypatch.setenv(lease.VARIABLE, own.launcher.token)
    recorder = begin(run, config)
    recorder.train(0, STEP)
    there = (run / files.METRICS).read_bytes(), (run / files.RUN).read_bytes()
    lease._write(own._folder, "r", 2, other.launcher, lease.Word.HELD)
    with pytest.raises(errors.LostLeaseError):
      recorder.sync()  # Before a checkpoint.
    recorder._checked_s = 0.0  # Half a second has passed.
    with pytest.raises(errors.LostLeaseError):
      recorder.train(1, STEP)
    with pytest.raises(errors.LostLeaseError):
      recorder.note(["of the data"])
    recorder.close()
  left = (run / files.METRICS).read_bytes(), (run / files.RUN).read_bytes()
  assert left == there


def test_a_run_that_goes_on_with_other_code_says_so(tmp_path, config):
  begin(tmp_path, config, modules={"own": "01-own.py", "b": "02-b.py"}).close()
  for step, code in ((3, "01"), (5, "03"), (7, "03")):
    modules = {"own": f"{code}-own.py", "b": "02-b.py"}
    begin(tmp_path, config, step=step, modules=modules).close()
  assert [
    text
    for text in files.read_json(tmp_path / files.RUN)["problems"]
    if "code" in text
  ] == ["before step 5 it ran with other code of own"]


def test_a_run_that_goes_on_with_other_arithmetic_says_so(tmp_path, config):
  """What run.json says of it is of the last process."""
  told = [
    {"devices": ["cpu"]},  # As before it was told.
    {"matmul_precision": "float32", "devices": ["cpu"]},
    {"matmul_precision": "tf32", "kernels": {"attention": ["cudnn"]}},
    {
      "matmul_precision": "tf32",
      "kernels": {"attention": ["cudnn", "reference"], "rms_norm": ["xla"]},
    },
    {"matmul_precision": "tf32", "kernels": {"rms_norm": ["mosaic_gpu"]}},
    {"devices": ["NVIDIA H200"]},
    {"matmul_precision": "float32", "devices": ["NVIDIA H200"]},
  ]
  for step, each in enumerate(told):
    begin(tmp_path, config, step=step, **each).close()
  assert [
    text
    for text in files.read_json(tmp_path / files.RUN)["problems"]
    if ", now " in text
  ] == [
    "before step 2 float32 products were float32, now tf32",
    "before step 4 rms_norm ran as xla, now as mosaic_gpu",
    "before step 6 float32 products were as the device has them by default,"
    " now float32",
  ]


def test_a_run_that_goes_on_on_other_devices_says_so(tmp_path, config):
  """Sums are taken in another order there."""
  told = [
    {"devices": ["cpu"] * 8, "num_devices": 8, "num_processes": 2},
    {"devices": ["cpu"] * 8, "num_devices": 8, "num_processes": 2},
    {"devices": ["cpu"] * 8, "num_devices": 8},
    {"devices": ["cpu"]},  # Of a record that does not say.
    {"devices": ["cpu"], "num_devices": 1},
    {"devices": ["NVIDIA H200"], "num_devices": 1},
  ]
  for step, each in enumerate(told):
    process = {"matmul_precision": "float32", **each}
    begin(tmp_path, config, step=step, **process).close()
  assert [
    text
    for text in files.read_json(tmp_path / files.RUN)["problems"]
    if ", now " in text
  ] == [
    "before step 2 it was on 8 x cpu of 2 processes, now 8 x cpu",
    "before step 5 it was on 1 x cpu, now 1 x NVIDIA H200",
  ]


def test_one_process_writes_and_the_others_know_the_same(tmp_path, config):
  first = begin(tmp_path / "run", config)
  first.evaluation(0, {"accuracy": 0.25}, 4.0)
  first.train(0, STEP)
  first.close()  # Killed here, after a checkpoint of step 1.
  said = []

  def say(make):
    said.append(json.dumps(make()))
    return json.loads(said[-1])

  process = {"writes": True, "from_writer": say}
  writer = begin(tmp_path / "run", config, step=1, process=process)
  assert writer.evaluations.keys() == {0}
  tell(writer, range(1, 3))
  # On a disk of its own, or one that shows it old files.
  process = {
    "writes": False,
    "from_writer": lambda make: json.loads(said.pop(0)),
  }
  other = begin(tmp_path / "new", config, step=1, process=process)
  assert other.evaluations.keys() == {0}
  tell(other, range(1, 3))
  assert other.result == writer.result
  assert other.result["state"] == "done"
  assert not said
  assert not (tmp_path / "new").exists()
