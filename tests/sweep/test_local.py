"""The pool of worker processes: what only it can get wrong."""

import json
import os

import pytest

from normjax import errors
from normjax.sweep import local, machine, protocol

SWEEP = "grid(seed=range(2))"
ONE_WORKER = {"executor": "local", "workers": 1}


def test_workers_of_another_version_are_one_error(
  write_config, run_toy, tmp_path, monkeypatch
):
  theirs = protocol.PROTOCOL
  ours = theirs + 1
  monkeypatch.setattr(protocol, "PROTOCOL", ours)
  with pytest.raises(
    errors.RunError,
    match=rf"do not start: the answer has version {theirs} of.*not {ours}",
  ):
    run_toy(write_config(SWEEP), tmp_path / "out", **ONE_WORKER)


def test_what_is_no_worker_s_answer_is_one_error(
  write_config, run_toy, tmp_path, monkeypatch
):
  stranger = tmp_path / "stranger"
  stranger.write_text("#!/bin/sh\necho hello\nsleep 60\n")
  stranger.chmod(0o755)
  monkeypatch.setattr(local.sys, "executable", str(stranger))
  with pytest.raises(errors.RunError, match=r"it is no JSON: 'hello'\. What"):
    run_toy(write_config(SWEEP), tmp_path / "out", **ONE_WORKER)


@pytest.mark.skipif(
  not hasattr(os, "sched_setaffinity"), reason="this system pins no process"
)
def test_a_worker_keeps_to_its_cores(
  write_config, run_toy, tmp_path, monkeypatch
):
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.setattr(machine, "has_accelerator", lambda: False)
  core = machine.usable_cores()[-1]
  monkeypatch.setattr(machine, "usable_cores", lambda: [core])
  for name in local.THREAD_COUNTS:
    monkeypatch.delenv(name, raising=False)
  (tmp_path / "pinned_runner.py").write_text(
    "import json, os, toy_runner\n"
    "def run(config, directory):\n"
    "  result = toy_runner.run(config, directory)\n"
    "  cores = sorted(os.sched_getaffinity(0))\n"
    "  said = [cores, os.environ['OMP_NUM_THREADS']]\n"
    "  (directory / 'cores').write_text(json.dumps(said))\n"
    "  return result\n"
  )
  out = tmp_path / "out"
  config = write_config("grid(seed=[0])")
  run_toy(config, out, runner="pinned_runner:run", **ONE_WORKER)
  (path,) = out.glob("runs/*/cores")
  assert json.loads(path.read_text()) == [[core], "1"]


def test_core_groups_share_all_cores():
  assert machine.core_groups([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3, 4]]
  assert machine.core_groups([4, 7], 2) == [[4], [7]]
  assert machine.core_groups([4, 7], 3) == [[4], [7], [4]]


def test_the_platform_decides_the_accelerator_where_it_is_set(monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert not machine.has_accelerator()
  monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
  assert machine.has_accelerator()


def test_an_accelerator_has_one_worker_and_no_cores(monkeypatch, tmp_path):
  options = {"out": tmp_path, "runner": "a:b", "num_slots": 2, "lock": 0}
  monkeypatch.setattr(machine, "usable_cores", lambda: [1, 2, 3])
  monkeypatch.setattr(machine, "has_accelerator", lambda: False)
  assert local.LocalPool.default_num_slots() == 3
  assert local.LocalPool(**options)._cores == [[1], [2, 3]]
  monkeypatch.setattr(machine, "has_accelerator", lambda: True)
  assert local.LocalPool.default_num_slots() == 1
  assert local.LocalPool(**options)._cores is None
