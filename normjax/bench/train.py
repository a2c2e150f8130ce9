"""What the training loop costs beside the compiled step itself."""

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from normjax import build, configure, train
from normjax.train import program

_REPEATS = 7
_STEPS = 60
# Sized for steps of about 50 ms on two cores.
_OVERRIDES = {
  "train.num_steps": _STEPS,
  "train.batch_size": 48,
  "evaluate.every_steps": 10 * _STEPS,
  "evaluate.num_batches": 1,
  "checkpoint.every_steps": 0,
  "log.every_steps": 10,
}


def _bare_step_s(config: configure.ConfigDict) -> float:
  """Seconds a step of the compiled program alone, on one batch."""
  compiled, _ = program.get(config)
  hyper = compiled.layout.put_scalars(build.hyper(config))
  batch = compiled.layout.put_batch(
    build.dataset(config).train_batch(0, 0, config.train.batch_size)
  )
  state = compiled.initialize(hyper, batch)
  jax.block_until_ready(state)
  start_s = time.perf_counter()
  for _ in range(_STEPS):
    state, _ = compiled.step(state, batch, hyper)
  jax.block_until_ready(state)
  return (time.perf_counter() - start_s) / _STEPS


def _loop(config: configure.ConfigDict, directory: Path) -> tuple[float, float]:
  """Seconds a step of the loop, and seconds from the call to step 0."""
  first_step_s = []

  def observe(name: str, step: int) -> None:
    if (name, step) == ("step", 0):
      first_step_s.append(time.perf_counter())

  start_s = time.perf_counter()
  result = train.run(config, directory, observe)
  return result["train_s"] / result["steps"], first_step_s[0] - start_s


def run(console: Console, options: Mapping[str, Any]) -> None:
  """Alternates the two, so that a slow spell of the machine hits both."""
  del options
  base = configure.override(configure.load("configs/default.py"), _OVERRIDES)
  start_s = time.perf_counter()
  compiled, _ = program.get(base)
  ready_s = time.perf_counter() - start_s
  _bare_step_s(base)
  bare_s, loop_s, begin_s = [], [], []
  with tempfile.TemporaryDirectory() as folder:
    for repeat in range(_REPEATS):
      config = configure.override(base, {"seed": repeat})
      bare_s.append(_bare_step_s(config))
      step_s, to_first_s = _loop(config, Path(folder) / str(repeat))
      loop_s.append(step_s)
      begin_s.append(to_first_s)
  overhead = statistics.median(
    loop / bare - 1 for loop, bare in zip(loop_s, bare_s, strict=True)
  )
  table = Table("quantity", "median", "all", title="normjax bench train")
  for name, values, unit in (
    ("compiled step alone", bare_s, "ms"),
    ("step in the loop", loop_s, "ms"),
    ("start of a point whose program is compiled", begin_s, "ms"),
  ):
    table.add_row(
      name,
      f"{1e3 * statistics.median(values):.1f} {unit}",
      " ".join(f"{1e3 * value:.1f}" for value in values),
    )
  table.add_row("loop / compiled step - 1 (paired)", f"{overhead:+.1%}", "")
  table.add_row(
    "data and compilation, once",
    f"{ready_s:.1f} s",
    f"of which compilation {compiled.compile_s:.1f} s",
  )
  console.print(table)
