"""What a sweep tells while it runs: a live table, or plain lines."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich.console
import rich.live
import rich.progress_bar
import rich.table

from normjax import escape
from normjax.record.directory import RunState, SweepDirectory
from normjax.sweep import labels, launch, schedule
from normjax.sweep.plan import Plan, Point

REFRESH_S = 1.0


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
    self._num_over = 0
    self._shown_s = 0.0
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
    self._console.print(escape.terminal(text), soft_wrap=True)

  def begin(self, plan: Plan, num_over: int) -> None:
    """Takes the plan of a new stage."""
    self._plan = plan
    self._num_over = num_over

  def note(self, text: str) -> None:
    """Prints what people should know."""
    self.say(f"note: {text}")

  def over(
    self, point: Point, result: Mapping[str, Any], wall_s: float
  ) -> None:
    """Counts a point that has its result, and prints it."""
    self._num_over += 1
    self.say(
      f"[{self._num_over}/{self._plan.num_points}] {describe(point)}:"
      f" {self._outcome(result)} ({seconds(wall_s)})"
    )

  def failed(self, point: Point, message: str, again: bool) -> None:
    """Prints a failed attempt."""
    then = "tried again later" if again else "given up"
    self.say(f"{describe(point)}: failed: {message}; {then}")

  def _outcome(self, result: Mapping[str, Any]) -> str:
    if result["state"] == RunState.DIVERGED:
      return f"diverged at step {result.get('diverged_at_step')}"
    value = result["metrics"].get(self._plan.metric)
    return f"{self._plan.metric} {number(value)}"

  def tick(self, launcher: launch.Launcher) -> None:
    """Draws the live table anew, now and then."""
    now_s = time.monotonic()
    if self._live is None or now_s - self._shown_s < REFRESH_S:
      return
    self._shown_s = now_s
    plan = self._plan
    left_s = schedule.expect_left_s(
      launcher.pending,
      plan.num_points - len(plan.points),
      launcher.progress(),
      self._num_slots,
      launcher.timings,
    )
    table = rich.table.Table(box=None, show_header=True, pad_edge=False)
    for name in ("running", "step", "loss"):
      table.add_column(name)
    for point in launcher.running():
      run = SweepDirectory(self._out).run(point.run_id)
      status = run.read_status().value or {}
      step = f"{status.get('step', 0)}/{status.get('num_steps', '?')}"
      table.add_row(
        escape.terminal(describe(point)),
        step,
        number(status.get("loss")),
      )
    table.add_row(
      rich.progress_bar.ProgressBar(
        total=plan.num_points, completed=self._num_over, width=30
      ),
      f"{self._num_over}/{plan.num_points}",
      f"ETA {'?' if left_s is None else seconds(left_s)}",
    )
    self._live.update(table, refresh=True)


def describe(point: Point) -> str:
  """A point in a few words."""
  tuned = "" if point.stage == "final" else f" ({point.stage})"
  values = "".join(
    f" {key.rpartition('.')[2]}={labels.describe(value)}"
    for key, value in point.tuned.items()
  )
  return f"{point.method}{values} seed {point.seed}{tuned}"


def number(value: Any) -> str:
  """A metric's value, or a dash."""
  return f"{value:.4g}" if isinstance(value, int | float) else "-"


def seconds(value_s: float) -> str:
  """A duration for people."""
  if value_s < 10:
    return f"{value_s:.1f} s"
  if value_s < 90:
    return f"{value_s:.0f} s"
  minutes, rest_s = divmod(round(value_s), 60)
  if minutes < 90:
    return f"{minutes} min {rest_s:02d} s"
  return f"{minutes // 60} h {minutes % 60:02d} min"
