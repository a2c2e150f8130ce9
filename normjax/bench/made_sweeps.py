"""Sweeps whose results are made up: what planning and reporting take.

The files are those of a real sweep, written without a flush of the disk; no
run is trained.
"""

import json
import math
import random
from collections.abc import Iterable
from pathlib import Path

from normjax.record import files
from normjax.record.directory import RunState, SweepDirectory
from normjax.sweep import api
from normjax.sweep.plan import Point

NORMS = (
  "layer_norm", "rms_norm", "crms_norm", "l2_norm", "scale_norm", "dyt",
  "derf", "bhyt", "seednorm", "identity",
)  # fmt: skip
_TUNED = """
from normjax import configure
from normjax.sweep import Sweep, Tune, grid, log_grid

def get_config():
  return configure.load("configs/default.py")

def sweep():
  rates = log_grid(1e-4, 1e-1, {num_values})
  return Sweep(
    methods=grid("norm.name", {norms}),
    seeds=range({num_seeds}),
    baseline={baseline!r},
    tune=Tune({{"optimizer.learning_rate": rates}}, max_extensions=0,
              second_pass=False))
"""
_NUM_STEPS = 1000
_ROWS_EVERY = 50
_EVALUATIONS_EVERY = 250


def write_config(
  folder: Path, num_norms: int, num_seeds: int, num_values: int
) -> Path:
  """A tuned sweep of norms: its file.

  Args:
    folder: of the file.
    num_norms: methods.
    num_seeds: of final runs; the tuning is repeated for each.
    num_values: of the learning rate.
  """
  path = folder / f"made_{num_norms}_{num_seeds}_{num_values}.py"
  path.write_text(
    _TUNED.format(
      norms=list(NORMS[:num_norms]),
      baseline=NORMS[0],
      num_seeds=num_seeds,
      num_values=num_values,
    )
  )
  return path


def finish(path: Path, out: Path, *, with_rows: bool) -> int:
  """Makes up the results of a whole sweep; returns how many runs it has.

  Args:
    path: of its config file.
    out: of the sweep.
    with_rows: whether runs leave metric rows and a run.json, as reports read.
  """
  done: set[str] = set()
  while True:
    prepared = api.Prepared(path, out)
    prepared.planner.write(prepared.state.plan)
    left = [p for p in prepared.state.left() if p.run_id not in done]
    if not left:
      return len(done)
    _end(out, left, with_rows=with_rows)
    done |= {point.run_id for point in left}


def _end(out: Path, points: Iterable[Point], *, with_rows: bool) -> None:
  """Writes what runs leave, and the attempts."""
  with SweepDirectory(out).open_attempts() as attempts:
    for point in points:
      run = SweepDirectory(out).run(point.run_id)
      draw = random.Random(point.run_id)
      rate = point.config["optimizer"]["learning_rate"]
      loss = 2.0 + 0.1 * math.log10(rate / 3e-3) ** 2 + draw.gauss(0, 0.01)
      rows = list(_rows(loss, draw))
      own = {"schema": files.SCHEMA, "run_id": point.run_id}
      if with_rows:
        said = {**own, "config": point.config, "program": point.program}
        files.write_json(run.path / files.RUN, said, durable=False)
        lines = [json.dumps(row) for row in rows]
        text = "\n".join(lines) + "\n"
        files.write_text(run.path / files.METRICS, text, durable=False)
      result = {
        "state": RunState.DONE,
        "steps": _NUM_STEPS,
        "metrics": {"eval/loss": loss, "train/loss": loss - 0.05},
        "compile_s": 3.0,
        "train_s": 20.0,
        "eval_s": 1.0,
        "wall_s": 25.0,
        "step_ms_median": 20.0,
        "num_params": 100_000,
        "optimizer_state_bytes": 800_000,
      }
      files.write_json(run.path / files.RESULT, own | result, durable=False)
      attempts.add(point.run_id, RunState.DONE, wall_s=25.0)


def _rows(loss: float, draw: random.Random) -> Iterable[files.Row]:
  """Rows of a run that ends at a loss."""
  for step in range(0, _NUM_STEPS, _ROWS_EVERY):
    value = loss + 3.0 * math.exp(-step / 100) + draw.gauss(0, 0.02)
    time_s = 0.02 * step
    row = {"step": step, "kind": "train", "time_s": time_s}
    yield {**row, "loss": value, "grad_norm": 1.0, "learning_rate": 1e-3}
    if step % _EVALUATIONS_EVERY == 0:
      yield {**row, "kind": "eval", files.EVAL_EXAMPLES: 64, "loss": value}
  yield {
    "step": _NUM_STEPS, "kind": "eval", "time_s": 20.0,
    files.EVAL_EXAMPLES: 64, "loss": loss,
  }  # fmt: skip
