"""A runner without jax: a run of a few steps with a checkpoint per step.

Its loss depends on the config alone, so that a sweep that was killed and
resumed must end with the results of one that never was.
"""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from normjax import errors, stopping
from normjax.record import files
from normjax.record.directory import RunDirectory, RunState


def program_key(config):
  """Configs that differ in the learning rate and the seed are one program."""
  return f"program-{config.toy.name}-{config.toy.width}"


def run(config, directory: Path) -> dict:
  """Trains nothing; leaves the files that a run leaves."""
  done = directory / files.RESULT
  if done.exists():
    return json.loads(done.read_text())
  toy = config.toy
  print("noise on standard output", flush=True)
  os.write(1, b"and below Python\n")
  directory.mkdir(parents=True, exist_ok=True)
  log(directory, "begin")
  files.write_json(directory / files.RUN, {"config": config.to_dict()})
  if toy.trouble:
    make_trouble(toy.trouble, directory)
  checkpoint = directory / files.CHECKPOINTS
  state = files.read_json(checkpoint) or {"step": 0, "sum": 0.0}
  draws = [
    random.Random(f"{config.seed}/{step}").random()
    for step in range(config.train.num_steps)
  ]
  try:
    while state["step"] < config.train.num_steps:
      time.sleep(toy.step_s)
      state = {
        "step": state["step"] + 1,
        "sum": state["sum"] + draws[state["step"]],
      }
      files.write_json(checkpoint, state)
      status = {"state": "running", "step": state["step"]}
      files.write_json(directory / files.STATUS, status)
      log(directory, f"step {state['step']}")
  except KeyboardInterrupt:
    log(directory, "interrupted")
    raise
  distance = math.log10(config.optimizer.learning_rate / toy.optimum)
  diverged = config.optimizer.learning_rate > toy.diverges_above
  loss = distance**2 + 0.001 * state["sum"] + len(toy.name)
  result = RunDirectory(directory, directory.name).write_result(
    RunState.DIVERGED if diverged else RunState.DONE,
    steps=state["step"],
    diverged_at_step=3 if diverged else None,
    metrics={"eval/loss": None if diverged else loss},
    compile_s=0.0,
  )
  if toy.trouble == "late":
    raise RuntimeError("after the result")
  return result


def make_trouble(trouble: str, directory: Path) -> None:
  """Fails, is killed, or waits, as the config says."""
  tries = (directory / "log").read_text().splitlines().count("begin")
  kind, _, times = trouble.partition(":")
  if tries > int(times or 1_000_000):
    return
  if kind == "raise":
    raise RuntimeError(f"toy trouble in attempt {tries}")
  if kind == "bad_input":
    raise errors.UserError("toy.trouble is bad input")
  if kind == "busy":
    raise errors.BusyRunError("in use by another run")
  if kind == "memory":
    raise MemoryError
  if kind == "device_memory":
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of\nmemory allocating")
  if kind == "thread":
    raise RuntimeError("can't start new thread")
  if kind == "disk":
    raise OSError(28, "No space left on device", "/data/x")
  if kind == "cache":
    raise errors.CacheError("cannot write the cache: full.")
  if kind == "exit":
    sys.exit(3)
  if kind == "cluster":  # Says so to the job that this worker is of.
    os.kill(os.getppid(), stopping.CLUSTER)
  if kind in ("scontrol requeue", "scancel"):
    subprocess.run([*kind.split(), os.environ["SLURM_JOB_ID"]], check=True)
  if kind == "sigkill":
    os.kill(os.getpid(), signal.SIGKILL)
  if kind == "sigterm":
    os.kill(os.getpid(), signal.SIGTERM)
    kind = "interrupt"
  if kind == "interrupt":
    raise KeyboardInterrupt
  if kind == "stubborn":
    signal.signal(stopping.SWEEP, signal.SIG_IGN)


def log(directory: Path, text: str) -> None:
  """Appends a line, so that a test can see what happened when."""
  with (directory / "log").open("a") as file:
    file.write(text + "\n")


def results(out: Path) -> dict:
  """Every result of a sweep, by run id."""
  return {
    path.parent.name: json.loads(path.read_text())
    for path in (Path(out) / "runs").glob("*/result.json")
  }


def logs(out: Path) -> dict:
  """The lines that each run's attempts logged, by run id."""
  return {
    path.parent.name: path.read_text().splitlines()
    for path in (Path(out) / "runs").glob("*/log")
  }
