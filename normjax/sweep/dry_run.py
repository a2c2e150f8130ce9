"""What a sweep would do: its points, programs, memory and time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import rich.console
import rich.table

from normjax import escape
from normjax.configure import ConfigDict
from normjax.record.directory import RunRecord
from normjax.sweep import labels
from normjax.sweep.plan import Estimate, Plan, Point
from normjax.sweep.progress import seconds

BYTES_PER_PARAM = 8  # float32: the value and its gradient
Cost = Mapping[str, Any]


def show(
  plan: Plan,
  entries: Mapping[str, RunRecord],
  num_workers: int,
  console: rich.console.Console,
  estimate: Estimate | None = None,
) -> None:
  """Prints the points, and the programs with what each costs.

  Args:
    plan: as far as it is known; the final runs of a sweep that still has to
      tune are counted, not listed.
    entries: of the points that are there already.
    num_workers: that would share the work.
    console: to print on.
    estimate: from a resolved config to `num_params`,
      `optimizer_state_bytes`, `flops_per_step`, `step_s` and, where it can
      tell, `peak_bytes`, `compile_s`; called once per program;
      `normjax.train.estimate` unless given.
  """
  estimate = estimate or _estimate()
  firsts = {point.program: point for point in reversed(plan.points)}
  costs = {
    program: estimate(ConfigDict(point.config))
    for program, point in firsts.items()
  }
  left = [p for p in plan.points if not entries[p.run_id].state.over]
  later = _later(plan)
  for method in plan.methods:
    values = _values(method.overrides) or "the config as it is"
    console.print(escape.terminal(f"{method.label}: {values}"))
  console.print(_points(plan, entries))
  console.print(_programs(plan, [*left, *later], costs))
  times_s = [_run_s(costs[p.program], p) for p in [*left, *later]]
  times_s += [
    costs[program].get("compile_s") or 0.0
    for program in dict.fromkeys(p.program for p in [*left, *later])
  ]
  known = all(time_s is not None for time_s in times_s)
  total = seconds(sum(times_s) / num_workers) if known else "unknown time"
  trials = plan.trials_per_method
  console.print(
    f"{plan.num_points} points ({len(later)} of them follow the tuning),"
    f" {plan.num_points - len(left) - len(later)} over;"
    f" {len(costs)} programs; {trials} tuning trials per method.\n"
    f"Left: about {total} on {num_workers} workers, without evaluation.",
    highlight=False,
  )


def _later(plan: Plan) -> list[Point]:
  """A stand-in for each final run that the tuning has yet to decide."""
  num_each = (plan.num_points - len(plan.points)) // len(plan.methods)
  firsts = {point.method: point for point in reversed(plan.points)}
  return [firsts[m.label] for m in plan.methods for _ in range(num_each)]


def _points(plan: Plan, entries: Mapping[str, RunRecord]) -> rich.table.Table:
  table = rich.table.Table(title=f"sweep {plan.sweep_id}", title_justify="left")
  for name in ("run", "stage", "method", "tuned", "seed", "program", "state"):
    table.add_column(name, overflow="fold")
  for point in plan.points:
    table.add_row(
      point.run_id,
      point.stage,
      escape.terminal(point.method),
      escape.terminal(_values(point.tuned)),
      str(point.seed),
      escape.terminal(point.program[:8]),
      entries[point.run_id].state,
    )
  return table


def _programs(
  plan: Plan, left: Sequence[Point], costs: Mapping[str, Cost]
) -> rich.table.Table:
  table = rich.table.Table(
    title="programs: points left, parameters, optimizer state, peak memory,"
    " a step's GFLOP and ms, time left",
    title_justify="left",
  )
  table.add_column("program")
  table.add_column("methods", overflow="fold")
  for name in ("left", "params", "state", "memory", "GFLOP", "ms", "time"):
    table.add_column(name, justify="right")
  for program, cost in costs.items():
    methods = [p.method for p in plan.points if p.program == program]
    own = [point for point in left if point.program == program]
    params, state = cost.get("num_params"), cost.get("optimizer_state_bytes")
    step_s, flops = cost.get("step_s"), cost.get("flops_per_step")
    times_s = [_run_s(cost, point) for point in own]
    table.add_row(
      escape.terminal(program[:8]),
      escape.terminal(", ".join(dict.fromkeys(methods))),
      str(len(own)),
      "?" if params is None else f"{params:,}",
      _megabytes(state),
      _memory(cost),
      "?" if flops is None or math.isnan(flops) else f"{flops / 1e9:.3g}",
      "?" if step_s is None else f"{step_s * 1e3:.3g}",
      "?" if None in times_s else seconds(sum(times_s)),
    )
  return table


def _values(overrides: Mapping[str, Any]) -> str:
  return " ".join(
    f"{key}={labels.describe(value)}" for key, value in overrides.items()
  )


def _run_s(cost: Cost, point: Point) -> float | None:
  step_s = cost.get("step_s")
  return None if step_s is None else step_s * point.config["train"]["num_steps"]


def _memory(cost: Cost) -> str:
  """The compiler's count, else what is there without any activation."""
  if cost.get("peak_bytes") is not None:
    return _megabytes(cost["peak_bytes"])
  params, state = cost.get("num_params"), cost.get("optimizer_state_bytes")
  if params is None or state is None:
    return "?"
  return f"> {_megabytes(params * BYTES_PER_PARAM + state)}"


def _megabytes(value: int | None) -> str:
  return "?" if value is None else f"{value / 1e6:.3g} MB"


def _estimate() -> Estimate:
  from normjax import train

  return train.estimate
