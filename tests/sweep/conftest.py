"""A config file for the toy runner, and ways to run it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import rich.console

from normjax import stopping
from normjax.sweep import device_locks, devices

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

CONFIG = """
import ml_collections
from normjax.sweep import Sweep, Tune, grid, log_grid, product

def get_config(arg=""):
  return ml_collections.ConfigDict({{
    "seed": 0,
    "optimizer": {{"name": "toy", "learning_rate": 0.1}},
    "train": {{"num_steps": 4}},
    "toy": {{"name": "a", "width": 1, "trouble": "", "optimum": 0.1,
             "diverges_above": 100.0, "step_s": {step_s}}},
  }})

def sweep(arg=""):
  return {sweep}
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
  """An nvidia-smi that lists these, alone on the PATH."""
  for name in ("JAX_PLATFORMS", devices.VISIBLE, *devices._FRACTIONS):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("PATH", str(tmp_path))
  monkeypatch.setattr(devices, "_DRIVER", tmp_path / "driver")
  monkeypatch.setattr(devices, "_DEVICES", tmp_path)
  monkeypatch.setattr(device_locks, "_FOLDER", tmp_path / "gpus")

  def make(text, status=0):
    path = tmp_path / "nvidia-smi"
    path.write_text(
      f"#!{sys.executable}\nimport sys\n"
      f"if sys.argv[1:] == ['-L']: sys.stdout.write({text!r})\n"
      f"sys.exit({status})\n"
    )
    path.chmod(0o755)

  return make


@pytest.fixture
def write_config(tmp_path):
  """Writes a config file; returns its path."""

  def write(sweep: str, step_s: float = 0.0, name: str = "toy") -> Path:
    path = tmp_path / f"{name}.py"
    path.write_text(CONFIG.format(sweep=sweep, step_s=step_s))
    return path

  return write


@pytest.fixture
def run_toy():
  """Runs a sweep of the toy runner: in this process, unless told otherwise.

  `executor="local"` is for what processes do; they take time to start.
  """
  import toy_runner
  from in_process import InProcess

  from normjax.sweep import api

  def run(config_path, out, **options):
    with open(os.devnull, "w") as nothing:
      options.setdefault("console", rich.console.Console(file=nothing))
      return api.run_sweep(
        config_path,
        out,
        **{
          "runner": "toy_runner:run",
          "program_key": toy_runner.program_key,
          "workers": 2,
          "executor": InProcess,
          **options,
        },
      )

  return run


@pytest.fixture
def start_toy(tmp_path):
  """Starts a sweep of the toy runner in a process of its own."""
  started = []

  def start(config_path, out, ignoring=(), **options):
    # A suite that runs in the background has SIGINT ignored.
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    for number in before:
      signal.signal(
        number, signal.SIG_IGN if number in ignoring else signal.SIG_DFL
      )
    process = subprocess.Popen(
      [
        sys.executable,
        str(HERE / "toy_sweep.py"),
        str(config_path),
        str(out),
        json.dumps({"workers": 2, **options}),
      ],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env={
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
      },
    )
    for number, handler in before.items():
      signal.signal(number, handler)
    started.append(process)
    return process

  yield start
  for process in started:
    process.kill()
    process.communicate()


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
  """SLURM's commands on the PATH, without SLURM; yields their folder.

  submitit, its script and its signals are the true ones.
  """
  from normjax.sweep.slurm import pool

  folder = tmp_path / "fake_slurm"
  folder.mkdir()
  tools = tmp_path / "bin"
  tools.mkdir()
  names = ("sbatch", "srun", "squeue", "scancel", "scontrol")
  for where in (*(tools / name for name in names), folder / "again"):
    where.symlink_to(HERE / "slurm_tools" / "slurm")
  monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
  monkeypatch.setenv("FAKE_SLURM", str(folder))
  monkeypatch.setattr(pool.SlurmPool, "poll_s", 0.05)
  monkeypatch.setattr(pool.SlurmPool, "ask_s", 0.5)
  yield folder
  for pid in folder.glob("*/pid"):
    with contextlib.suppress(ProcessLookupError, ValueError):
      os.killpg(int(pid.read_text()), signal.SIGKILL)
