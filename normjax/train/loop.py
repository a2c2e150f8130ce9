"""The loop around the compiled step, and what it leaves on disk."""

import contextlib
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from normjax import build, configure, errors, stopping
from normjax.record import files, provenance, sinks
from normjax.record.clock import Clock
from normjax.record.directory import RunState
from normjax.train import program, sharding
from normjax.train.checkpoint import Checkpoints
from normjax.train.evaluate import Stopped, evaluate, evaluate_corrupted

Event = Callable[[str, int], None]

_STATUS_EVERY_S = 0.5


class Run:
  """What the loop carries besides the state."""

  def __init__(self, config, directory: Path, observe: Event):
    self.config, self.directory, self.observe = config, directory, observe
    self.num_steps = config.train.num_steps
    self.start_s = time.perf_counter()
    self.status_fields: dict[str, Any] = {"step": 0, "loss": None}
    self.last: dict[str, float] = {}  # "kind/metric" -> newest value.
    self.newest: tuple[int, dict[str, jax.Array]] | None = None
    self.gradient_zero_since: int | None = None
    self.step_times_s: list[float] = []
    self.sinks: list[sinks.Sink] = []
    self.metrics: files.MetricsFile | None = None
    self.checkpoints: Checkpoints | None = None
    self.status(RunState.RUNNING, message="starting")

  # ----- The loop -----

  def train(self) -> dict[str, Any]:
    """The whole run."""
    config = self.config
    self.dataset = build.dataset(config)
    self.program, is_new = program.get(config)
    state = self.prepare(is_new)
    # From here on a signal finds the end of a step, and a checkpoint.
    with stopping.deferred():
      return self.loop(state)

  def loop(self, state) -> dict[str, Any]:
    """From a state to the result."""
    config = self.config
    evaluate_every = config.evaluate.every_steps
    save_every = config.checkpoint.every_steps
    step = int(state.step)
    # THE ORDER IS THE CONTRACT (tests/train/test_loop.py): evaluate the
    # state, save it, take the step, log it. A checkpoint, its evaluation and
    # its step number then always speak of the same state, and every row that
    # describes a step before a checkpoint is on disk before that checkpoint.
    while True:
      last = step == self.num_steps
      diverged_at = int(state.diverged_at)
      if diverged_at < 0 and (last or step % evaluate_every == 0):
        with contextlib.suppress(Stopped):  # What came is seen below.
          self.evaluate(state, step)
      over = diverged_at >= 0 or (last and step in self.evaluated)
      if stopping.asked() and not over:
        self.stop(state, step)
      if step != self.saved and (
        last or (save_every and step % save_every == 0)
      ):
        self.save(state, step)
      if last or diverged_at >= 0:
        break
      stop = min(
        _next_multiple(step, evaluate_every),
        _next_multiple(step, save_every) if save_every else self.num_steps,
        self.num_steps,
      )
      state, step = self.steps(state, step, stop)
    return self.finish(state, step)

  def steps(self, state, step: int, stop: int):
    """Steps up to `stop`, or until divergence is seen; logs a step late."""
    every = self.config.log.every_steps
    one_at_a_time = self.program.mesh.size > 1 and (
      self.program.mesh.devices.flat[0].platform == "cpu"
    )
    with self.clock.measure("train"):
      pending = None  # Rows are fetched while the next step runs.
      self.mark = (step, time.perf_counter())
      while step < stop and not stopping.asked():
        state, metrics = self.program.step(state, self.batch(step), self.hyper)
        self.newest = (step, metrics)
        self.observe("step", step)
        if one_at_a_time:
          # Two collective programs in flight can starve each other of the
          # host's threads and never end.
          jax.block_until_ready(metrics)
        if pending is not None:
          diverged_at = self.log(*pending)
          pending = None
          if diverged_at >= 0:
            return state, step + 1
        if step % every == 0:
          pending = (step, metrics)
        step += 1
      if pending is not None:
        self.log(*pending)
      jax.block_until_ready(state)
    return state, step

  def batch(self, step: int):
    """The batch of a step, on the devices."""
    batch = self.dataset.train_batch(
      self.config.seed, step, self.config.train.batch_size
    )
    return jax.device_put(dict(batch), self.batch_sharding)

  # ----- Before and after -----

  def prepare(self, is_new: bool):
    """Fresh or restored state, and the files that go with it."""
    config = self.config
    mesh = self.program.mesh
    self.batch_sharding = sharding.split_batch(mesh)
    self.hyper = jax.device_put(build.hyper(config), sharding.replicated(mesh))
    restored, seconds, problems = None, None, []
    if config.checkpoint.every_steps:
      self.checkpoints = Checkpoints(
        self.directory / files.CHECKPOINTS,
        config.checkpoint.keep,
        configure.run_id(config),
      )
      restored, seconds, problems = self.checkpoints.restore(
        self.program.abstract_state
      )
    problems += self.set_result_aside()
    self.clock = Clock(seconds)
    if is_new:
      self.clock.add("compile", self.program.compile_s)
    state = restored or self.start()
    step = int(state.step)
    self.saved = step if restored else -1
    self.metrics = files.MetricsFile(
      self.directory / files.METRICS,
      # The evaluation of the checkpoint's state came before it was saved.
      keep=lambda row: (
        row["step"] < step or (row["step"], row["kind"]) == (self.saved, "eval")
      ),
    )
    self.evaluated = {
      row["step"] for row in self.metrics.rows if row["kind"] == "eval"
    }
    for row in self.metrics.rows:
      self.remember(row)
    problems += self.metrics.problems
    every = {
      "eval": config.evaluate.every_steps,
      "train": config.log.every_steps,
    }
    problems += files.lost_rows(self.metrics.rows, step, every)
    self.write_run_file(state, problems)
    resolved = configure.to_dict(config)
    self.sinks = [
      sink(self.directory, resolved)
      for name, sink in sinks.SINKS.items()
      if config.log[name]
    ]
    return state

  def set_result_aside(self) -> list[str]:
    """Keeps what is there and is no result of this run; a note of it."""
    path = self.directory / files.RESULT
    if not path.exists():
      return []
    aside = path.with_name(path.name + ".corrupt")
    path.replace(aside)
    return [f"{path.name} was not this run's; it was moved to {aside.name}"]

  def start(self):
    """The state before step 0: as drawn, and changed by the start steps."""
    return self.program.initialize(
      self.hyper, self.batch(0), build.start_steps(self.config)
    )

  def write_run_file(self, state, problems: list[str]) -> None:
    """Config and provenance; keeps what an earlier process noted."""
    path = self.directory / files.RUN
    try:
      steps, noted = files.read_notes(path)
    except errors.RunError as error:
      steps, noted, problems = [], [], [*problems, str(error)]
    self.sizes = self.program.sizes(state)
    files.write_json(
      path,
      {
        "schema": files.SCHEMA,
        "run_id": configure.run_id(self.config),
        "config": configure.to_dict(self.config),
        "program": build.program_key(self.config),
        **self.sizes,
        "provenance": {
          **provenance.collect(),
          "num_devices": self.program.mesh.size,
          "cores": len(os.sched_getaffinity(0)),
          "kernels": self.program.kernels,
          "data": self.dataset.provenance,
        },
        "resumed_at_steps": [
          *steps,
          *([int(state.step)] if self.saved >= 0 else []),
        ],
        "problems": [*noted, *problems],
      },
    )

  def finish(self, state, step: int) -> dict[str, Any]:
    """Writes the result; after this the run is over."""
    diverged_at = int(state.diverged_at)
    if self.newest is not None:
      # The last step may have no row.
      last, metrics = self.newest
      norm, loss = (float(metrics[name]) for name in ("grad_norm", "loss"))
      self.watch_gradient(last, norm, loss)
    outcome = RunState.DIVERGED if diverged_at >= 0 else RunState.DONE
    result = {
      "schema": files.SCHEMA,
      "run_id": configure.run_id(self.config),
      "state": outcome,
      "steps": step,
      "diverged_at_step": diverged_at if diverged_at >= 0 else None,
      "gradient_zero_since_step": self.gradient_zero_since,
      "metrics": self.last,
      **self.sizes,
      **{f"{name}_s": s for name, s in self.clock.to_dict().items()},
      "wall_s": time.perf_counter() - self.start_s,
      "step_ms_median": 1e3 * statistics.median(self.step_times_s or [0.0]),
    }
    if self.checkpoints is not None:
      self.checkpoints.close()
      self.checkpoints = None
    assert self.metrics is not None
    self.metrics.sync()
    files.write_json(self.directory / files.RESULT, result)
    self.status(outcome)
    return files.finite(result)

  # ----- Single events -----

  def evaluate(self, state, step: int) -> None:
    """Evaluates, unless the row is there from before a resume."""
    if step in self.evaluated:
      return
    self.observe("evaluate", step)
    options = self.config.evaluate
    sizes = {
      "batch_size": options.batch_size,
      "num_batches": options.num_batches,
    }
    with self.clock.measure("eval"):
      means = evaluate(self.program, state, self.dataset, self.hyper, **sizes)
      if step == self.num_steps and options.corruptions:
        means |= evaluate_corrupted(
          self.program,
          state,
          self.dataset,
          self.hyper,
          options.corruptions,
          means["accuracy"],
          **sizes,
        )
    self.row("eval", step, means)
    self.evaluated.add(step)
    self.status(RunState.RUNNING)

  def save(self, state, step: int) -> None:
    """Starts an asynchronous checkpoint of the state."""
    if self.checkpoints is None:
      return
    self.observe("save", step)
    assert self.metrics is not None
    self.metrics.sync()
    # The next step donates the state's buffers; the writer needs its own.
    self.checkpoints.save(self.program.snapshot(state), self.clock.to_dict())
    self.saved = step

  def stop(self, state, step: int) -> None:
    """Saves, also between two checkpoints that are due, and ends the run.

    Raises:
      KeyboardInterrupt: always.
    """
    if step != self.saved:
      self.save(state, step)
    raise KeyboardInterrupt

  def log(self, step: int, metrics: dict[str, jax.Array]) -> int:
    """Fetches and writes a training row; returns where the run diverged."""
    self.observe("log", step)
    values = {name: float(v) for name, v in jax.device_get(metrics).items()}
    diverged_at = int(values.pop("diverged_at"))
    now_s = time.perf_counter()
    marked_step, marked_s = self.mark
    if step > marked_step:
      self.step_times_s.append((now_s - marked_s) / (step - marked_step))
    self.mark = (step, now_s)
    probed = {name: v for name, v in values.items() if "/" in name}
    plain = {name: v for name, v in values.items() if "/" not in name}
    self.row("train", step, plain)
    if probed:
      self.row("probe", step, probed)
    self.status_fields |= {"step": step, "loss": values["loss"]}
    if now_s - self.status_written_s > _STATUS_EVERY_S:
      self.status(RunState.RUNNING)
    return diverged_at

  def row(self, kind: str, step: int, values: dict[str, float]) -> None:
    """Writes one row to disk, then to the mirrors."""
    assert self.metrics is not None
    row = {
      "step": step,
      "kind": kind,
      "time_s": round(self.clock["train"], 4),
      **values,
    }
    self.metrics.append(row)
    self.remember(row)
    for sink in self.sinks:
      sink.write(row)

  def remember(self, row: dict[str, Any]) -> None:
    """Keeps the newest values, for the result."""
    if row["kind"] == "train":
      self.watch_gradient(row["step"], row.get("grad_norm"), row.get("loss"))
    if row["kind"] != "probe":
      for name, value in row.items():
        if name not in ("step", "kind", "time_s"):
          self.last[f"{row['kind']}/{name}"] = value

  def watch_gradient(
    self, step: int, norm: float | None, loss: float | None
  ) -> None:
    """Notes the first of the steps, up to the newest, that teach nothing.

    Their gradient is exactly 0, or so small that its square underflows, and
    their loss is not: a network that is dead, and whose loss is finite. Seen
    in the training rows and in the last step, at no cost in the others.
    """
    if norm != 0 or not loss or not math.isfinite(loss):
      self.gradient_zero_since = None
    elif self.gradient_zero_since is None:
      self.gradient_zero_since = step

  def status(self, state: RunState, message: str = "") -> None:
    """Replaces status.json."""
    self.status_written_s = time.perf_counter()
    left = self.num_steps - self.status_fields["step"]
    step_s = self.step_times_s[-1] if self.step_times_s else None
    files.write_json(
      self.directory / files.STATUS,
      {
        "state": state,
        **self.status_fields,
        "num_steps": self.num_steps,
        "eta_s": None if step_s is None else left * step_s,
        "updated_s": time.time(),
        "message": message,
      },
      durable=False,
    )

  def close(self) -> None:
    """Closes what is open, all of it, also after an error."""
    with contextlib.ExitStack() as stack:
      if self.metrics is not None:
        stack.callback(self.metrics.close)
      for sink in self.sinks:
        stack.callback(sink.close)
      if self.checkpoints is not None:
        stack.callback(self.checkpoints.close)


def _next_multiple(step: int, every: int) -> int:
  return (step // every + 1) * every
