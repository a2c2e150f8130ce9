"""Two processes of four devices train as one of eight, and end as one."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

import normjax
from normjax import cli, configure, errors
from normjax.record import files
from normjax.record.directory import RunDirectory
from normjax.train import checkpoint, digest, entry, program, reopen
from normjax.train.processes import distributed
from normjax.train.sharding import layout
from tests import support

NUM_PROCESSES = 2
PATIENCE_S = 240
# SGD: Adam makes a full step of a gradient that is all rounding, as that of a
# bias before batch norm.
ALL = {
  "train.num_devices": 0,
  "optimizer.name": "sgd",
  "optimizer.learning_rate": 0.1,
}
MLP = {**support.MLP, **ALL}
FSDP = {"train.layout.fsdp": 8, "train.layout.min_size": 64}
# What procedures keep, draw and measure is the same in all processes.
CONTINUAL = {
  "continual.learner": "derpp(alpha=0.2, beta=0.5)",
  "continual.buffer_size": 12,
  "continual.replay_size": 8,
  "continual.forward": "joint",
}
ADAPTATION = {
  "evaluate.adapt.methods": ("batch",),
  "evaluate.adapt.corruptions": ("clean", "contrast"),
  "evaluate.adapt.batch_size": 16,
  "evaluate.adapt.num_examples": 40,
}
FOUR_DEVICES = "--xla_force_host_platform_device_count=4"


def together(out, changes, *events):
  """Exit codes and what is said, by process, of a run in two of them.

  Args:
    out: of the run.
    changes: of the default config.
    events: see `tests.train.processes.process`.
  """
  with contextlib.closing(socket.create_server(("", 0))) as server:
    port = server.getsockname()[1]
  light = os.environ["XLA_FLAGS"].replace(
    "--xla_force_host_platform_device_count=8", FOUR_DEVICES
  )
  environment = {
    **os.environ,
    "XLA_FLAGS": light,
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # As the tests here.
    "JAX_ENABLE_COMPILATION_CACHE": "0",
  }
  command = (
    *(
      sys.executable,
      "-m",
      "tests.train.processes.process",
      json.dumps(events),
    ),
    *("train", "configs/default.py", f"--out={out}", *support.flags(changes)),
    *("--distributed", f"--coordinator=127.0.0.1:{port}"),
    f"--num_processes={NUM_PROCESSES}",
  )
  started = [
    subprocess.Popen(
      [*command, f"--process_id={process_id}"],
      cwd=support.ROOT,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for process_id in range(NUM_PROCESSES)
  ]
  try:
    said = [each.communicate(timeout=PATIENCE_S) for each in started]
  finally:
    for each in started:
      each.kill()
  return [
    (each.returncode, out, err)
    for each, (out, err) in zip(started, said, strict=True)
  ]


def config_of(changes, **more):
  """The config of a run."""
  base = configure.load("configs/default.py")
  return configure.override(base, {**changes, **more})


def check_close(found, wanted):
  """Rows are equal but for the order of sums.

  A sum over at most 64 terms may round otherwise, by 64 2^-24 of it; what a
  step adds to the weights' error, the next ones keep.
  """
  assert [row["step"] for row in found] == [row["step"] for row in wanted]
  for row, other in zip(found, wanted, strict=True):
    steps = 1 + row["step"]
    for name, value in other.items() - {("kind", other["kind"])}:
      close = dict(rtol=64 * steps * 2**-24, atol=64 * steps * 2**-24)
      np.testing.assert_allclose(row[name], value, **close, err_msg=name)


def test_a_signal_to_one_stops_both_and_another_machine_goes_on(tmp_path):
  config = config_of(MLP)
  ended = together(tmp_path / "two", MLP, [1, "step", 5, "SIGTERM"])
  assert [code for code, *_ in ended] == [130, 130], ended
  assert all("interrupted; the same command goes on" in e for *_, e in ended)
  run_id = configure.run_id(config)
  run = RunDirectory(tmp_path / "two" / run_id, run_id)
  step = max(checkpoint.steps(run.path))
  assert 6 <= step < 12
  for kind in ("train", "eval"):
    assert all(r["step"] <= step for r in support.rows(run.path, kind))
  assert run.read().state == "interrupted"
  run_json = files.read_json(run.path / files.RUN)
  assert run_json["provenance"]["num_processes"] == 2
  assert run_json["provenance"]["num_devices"] == 8

  # What two processes wrote, one reads: on eight devices, on two, on one.
  opened = {
    devices: reopen.open_config(
      config_of(MLP, **{"train.num_devices": devices})
    )
    for devices in (1, 2)
  }
  seals = [checkpoint.read_seal(run.path / files.CHECKPOINTS / str(step))]
  for devices, each in opened.items():
    copy = tmp_path / f"on {devices}"
    shutil.copytree(run.path / files.CHECKPOINTS, copy)
    found = checkpoint.Checkpoints(copy, keep=2, run_id=run.run_id)
    state, _, problems = found.restore(each.state)
    found.close()
    assert problems == []
    assert len(state.params["layers"]["0"]["kernel"].devices()) == devices
    seals.append({"leaves": digest.compute(state.branches())})
  assert seals[0]["leaves"] == seals[1]["leaves"] == seals[2]["leaves"]
  assert normjax.load_run(run.path).state.step == step

  entry.run(config, run.path)
  entry.run(config, tmp_path / "one")
  for kind in ("train", "eval"):
    check_close(
      support.rows(run.path, kind), support.rows(tmp_path / "one", kind)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
  "changes",
  [
    {**support.RESNET, **ALL},
    {**support.DECODER, **ALL, "checkpoint.every_steps": 5},
    {**support.DECODER, **ALL, **FSDP},
    {**MLP, **CONTINUAL},
    {**MLP, **ADAPTATION},
  ],
  ids=[
    "resnet with batch norm",
    "decoder",
    "decoder with fsdp",
    "continual learning",
    "adaptation at the end",
  ],
)
def test_one_run_on_any_devices(tmp_path, changes):
  """The same of two processes, of one with eight devices, and of one device."""
  ended = together(tmp_path / "two", changes)
  assert [code for code, *_ in ended] == [0, 0], ended
  assert "done after 12 steps" in ended[0][1]
  assert "done" not in ended[1][1]  # Gloo says who is connected.
  run_id = configure.run_id(config_of(changes))
  for devices in (0, 1):
    fewer = {"train.num_devices": 1, "train.layout.fsdp": 1} if devices else {}
    config = config_of(changes, **fewer)
    entry.run(config, tmp_path / str(devices))
    for kind in ("train", "eval"):
      check_close(
        support.rows(tmp_path / "two" / run_id, kind),
        support.rows(tmp_path / str(devices), kind),
      )


@pytest.mark.slow
def test_two_processes_go_on_to_the_last_bit(tmp_path):
  """Stopped in a step, stopped in an evaluation, killed: nothing is lost."""
  whole = together(tmp_path / "whole", MLP)
  assert [code for code, *_ in whole] == [0, 0], whole
  signals = ([1, "step", 2, "SIGTERM"], [0, "evaluate", 8, "SIGTERM"])
  for event in signals:
    ended = together(tmp_path / "cut", MLP, event)
    assert [code for code, *_ in ended] == [130, 130], ended
  killed = together(tmp_path / "cut", MLP, [1, "step", 10, "SIGKILL"])
  assert [code for code, *_ in killed] == [1, -9], killed
  assert "process 1 is gone without a word" in killed[0][2]
  full = together(tmp_path / "cut", MLP, [0, "step", 11, "ENOSPC"])
  assert [code for code, *_ in full] == [2, 1], full
  assert full[0][2].startswith("normjax: no space left on the device of the di")
  assert "process 0 ended: OSError: [Errno 28] No space left" in full[1][2]
  ended = together(tmp_path / "cut", MLP)
  assert [code for code, *_ in ended] == [0, 0], ended
  cut, uncut = (
    tmp_path / name / configure.run_id(config_of(MLP))
    for name in ("cut", "whole")
  )
  for kind in ("train", "eval"):
    assert support.rows(cut, kind) == support.rows(uncut, kind)
  seals = [
    checkpoint.read_seal(run / files.CHECKPOINTS / "12")["leaves"]
    for run in (cut, uncut)
  ]
  assert seals[0] == seals[1]


def parts(leaf):
  """The sums of a split leaf, by its parts."""
  shards = [s for s in leaf.addressable_shards if s.replica_id == 0]
  assert len(shards) > 1
  found = [digest._of_part(s.data, s.index, leaf.shape) for s in shards]
  return np.sum(found, axis=0, dtype=np.uint32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int4", "bool"])
@pytest.mark.parametrize("on_host", [True, False])
def test_fingerprints_of_parts_add_up(dtype, on_host, monkeypatch):
  """So that a leaf which no process holds whole has the one it always has."""
  drawn = 4 * np.random.default_rng(0).standard_normal((16, 8))
  leaf = jax.numpy.asarray(drawn).astype(dtype)
  mesh = jax.make_mesh(
    (2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  monkeypatch.setattr(digest, "_is_on_host", lambda leaf: on_host)
  for axes in (("a", "b"), (None, "a"), (("a", "b"),)):
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
    found = parts(jax.device_put(leaf, spec))
    np.testing.assert_array_equal(found, digest.on_host(leaf))


class Told:
  """Stands for the other processes: what each has said already."""

  num_processes = 2

  def __init__(self, *others, process_id=0):
    self._others, self.process_id = list(others), process_id

  def exchange(self, value):
    other = self._others.pop(0)
    return [value, other] if self.process_id == 0 else [other, value]


def refuse():
  raise errors.BusyRunError("in use")


def test_bad_input_of_one_is_raised_by_all(monkeypatch):
  problem = ["BusyRunError", "in use"]
  for group, call in (
    (Told(None), lambda: distributed.together(refuse)),
    (Told(problem), lambda: distributed.together(dict)),
    (Told(None), lambda: distributed.from_first(refuse)),
    (
      Told([problem, None], process_id=1),
      lambda: distributed.from_first(refuse),
    ),
  ):
    monkeypatch.setattr(distributed, "_group", group)
    with pytest.raises(errors.BusyRunError, match="in use"):
      call()
  monkeypatch.setattr(distributed, "_group", Told([None, 3], process_id=1))
  assert distributed.from_first(refuse) == 3
  monkeypatch.setattr(distributed, "_group", Told("b"))
  with pytest.raises(errors.RunError, match="process 1 has another fingerp"):
    distributed.check_same("fingerprint of its data", "a")


def test_all_devices_of_all_processes_or_none(monkeypatch):
  monkeypatch.setattr(distributed, "_group", Told())
  config = config_of(MLP, **{"train.num_devices": 4})
  recipe, _ = program.recipe_and_initialize(config)
  with pytest.raises(errors.UserError, match="out; in several processes it"):
    layout.create(config, recipe)


def test_jax_in_processes_of_its_own_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  with pytest.raises(errors.UserError, match="normjax train --distributed"):
    entry.run(config_of(MLP), tmp_path / "run")


def test_flags_of_several_processes(capsys, tmp_path):
  command = ["train", "configs/default.py", f"--out={tmp_path}"]
  for more, said in (
    (["--process_id=1"], "--process_id is of a run in several processes; add"),
    (["--distributed", "--process_id=1"], "--num_processes missing: give"),
    (["--distributed", "--start_timeout_s=nan"], "=nan; allowed: 0 to 1e+06"),
    (["--distributed", "--start_timeout_s=inf"], "=inf; allowed: 0 to 1e+06"),
    (
      ["--distributed", "--coordinator=localhost:1", "--num_processes=2",
       "--process_id=1", "--start_timeout_s=0.1"],
      "process 0 did not answer within 0.1 s (Connection refused)",
    ),
  ):  # fmt: skip
    assert cli.main([*command, *more]) == 2
    assert said in capsys.readouterr().err
  assert not list(tmp_path.iterdir())
