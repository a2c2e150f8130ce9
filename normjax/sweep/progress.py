"""What a sweep tells while it runs: a live table, or plain lines."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import rich.console
import rich.live
import rich.progress_bar
import rich.table

from normjax import escape
from normjax.record import failures, target
from normjax.record.directory import RunState, SweepDirectory
from normjax.record.durations import seconds
from normjax.sweep import labels, launch, schedule
from normjax.sweep.plan import Plan, Point
from normjax.sweep.planner import State

REFRESH_S = 1.0
# Of a log without a terminal: the longest time without a line.
LINE_S = 60.0


class Progress:
  """Counts what is over; lines always, a live table on a terminal.

  It is the launcher's `Watcher`.
  """

  def __init__(self, out: Path, console: rich.console.Console, num_slots: int):
    """Shows nothing before the first `begin`."""
    self._out = out
    self._console = console
    self._num_slots = num_slots
    self._plan: Plan | None = None
    self._num_over = self._num_points = self._num_unknown = 0
    self._launcher: launch.Launcher | None = None
    self._shown_s = self._said_s = time.monotonic()
    self._faults: dict[str, bool] = {}  # Whether a point was given up.
    self._live = (
      rich.live.Live(console=console, auto_refresh=False, transient=True)
      if console.is_terminal
      else None
    )

  def __enter__(self) -> "Progress":
    """Starts the live table."""
    if self._live:
      self._live.start()
    return self

  def __exit__(self, *exception: Any) -> None:
    """Removes the live table; the lines stay."""
    if self._live:
      self._live.stop()

  def say(self, text: str) -> None:
    """Prints a line."""
    self._said_s = time.monotonic()
    self._console.print(escape.terminal(text), soft_wrap=True)

  def begin(self, state: State) -> None:
    """Takes the plan of a new stage."""
    self._plan = state.plan
    self._num_over = state.num_over()
    self._num_points = state.num_chosen()
    self._num_unknown = self._num_points - len(state.chosen())

  def note(self, text: str) -> None:
    """Prints what people should know."""
    self.say(f"note: {text}")

  def over(
    self, point: Point, result: Mapping[str, Any], wall_s: float
  ) -> None:
    """Counts a point that has its result, and prints it."""
    self._num_over += 1
    is_last = self._num_over == self._num_points
    eta = "" if self._live or is_last else f", {self._eta()}"
    self.say(
      f"{self._count()} {describe(point)}:"
      f" {self._outcome(point, result)} ({seconds(wall_s)}){eta}"
    )

  def failed(self, point: Point, message: str, again: bool) -> None:
    """Prints a failed attempt; a fault that was met before only in short."""
    fault = failures.Failure("", message, point.run_id).fault
    if fault not in self._faults:
      then = "tried again later" if again else "given up"
      self.say(f"{describe(point)}: failed: {message.rstrip('.')}; {then}")
      self._faults[fault] = not again
    elif not again and not self._faults[fault]:
      self.say(f"{describe(point)}: failed so again; given up")
      self._faults[fault] = True

  def _count(self) -> str:
    return f"[{self._num_over}/{self._num_points}]"

  def _eta(self) -> str:
    """When all that was chosen is over, as far as can be told."""
    left_s = None
    if self._launcher is not None:
      left_s = schedule.expect_left_s(
        self._launcher.pending,
        self._num_unknown,
        self._launcher.progress(),
        self._num_slots,
        self._launcher.timings,
      )
    return f"ETA {'?' if left_s is None else seconds(left_s)}"

  def _outcome(self, point: Point, result: Mapping[str, Any]) -> str:
    if result["state"] == RunState.DIVERGED:
      return f"diverged at step {result.get('diverged_at_step')}"
    run = SweepDirectory(self._out).run(point.run_id)
    name = self._plan.metric
    told = target.add(result, [name], lambda: run.read_rows()[0])
    value = told["metrics"].get(name)
    if value is None and target.parse(name) is not None:
      return f"{name} not reached"
    return f"{self._plan.metric} {number(value)}"

  def _running(self, launcher: launch.Launcher) -> Iterator[tuple[str, ...]]:
    """Point, step and loss of what runs now."""
    for point in launcher.running():
      run = SweepDirectory(self._out).run(point.run_id)
      status = run.read_status().value or {}
      step = f"{status.get('step', 0)}/{status.get('num_steps', '?')}"
      yield describe(point), step, number(status.get("loss"))

  def tick(self, launcher: launch.Launcher) -> None:
    """Draws the live table anew, now and then; or a line, more rarely."""
    self._launcher = launcher
    now_s = time.monotonic()
    if self._live is None:
      if now_s - self._said_s > LINE_S:
        running = (
          f"{name} at step {step}, loss {loss}"
          for name, step, loss in self._running(launcher)
        )
        self.say(f"{self._count()} {self._eta()}: {'; '.join(running)}")
      return
    if now_s - self._shown_s < REFRESH_S:
      return
    self._shown_s = now_s
    table = rich.table.Table(box=None, show_header=True, pad_edge=False)
    for name in ("running", "step", "loss"):
      table.add_column(name)
    for name, step, loss in self._running(launcher):
      table.add_row(escape.terminal(name), step, loss)
    table.add_row(
      rich.progress_bar.ProgressBar(
        total=self._num_points, completed=self._num_over, width=30
      ),
      f"{self._num_over}/{self._num_points}",
      self._eta(),
    )
    self._live.update(table, refresh=True)


def describe(point: Point) -> str:
  """A point in a few words."""
  stage = "" if point.stage == "final" else f"({point.stage})"
  if point.for_seed is not None:
    stage = f"({point.stage} for seed {point.for_seed})"
  parts = (point.method, labels.tuned(point.tuned), f"seed {point.seed}", stage)
  return " ".join(filter(None, parts))


def number(value: Any) -> str:
  """A metric's value, or a dash."""
  return f"{value:.4g}" if isinstance(value, int | float) else "-"
