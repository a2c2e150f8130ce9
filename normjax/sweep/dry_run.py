"""What a sweep would do: its points at once, then what its programs cost.

The points come from the files alone. A program's cost comes from compiling it,
which may take minutes where there are many: each is told when it is known.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import rich.console
import rich.table

from normjax import escape, simulate, statistics
from normjax.configure import ConfigDict
from normjax.record import comparison, rungs
from normjax.record.comparison import WORST
from normjax.record.durations import seconds
from normjax.sweep import labels
from normjax.sweep.plan import Estimate, Plan, Point
from normjax.sweep.planner import State

BYTES_PER_PARAM = 8  # float32: the value and its gradient
Cost = Mapping[str, Any]


def points(state: State, console: rich.console.Console) -> None:
  """Prints the methods and the points, which takes no time.

  Args:
    state: as far as it is known; the final runs of a sweep that still has to
      tune are counted, not listed.
    console: to print on.
  """
  plan = state.plan
  for method in plan.methods:
    if method.label in state.selection.labels:
      values = _values(method.overrides) or "the config as it is"
      console.print(escape.terminal(f"{method.label}: {values}"))
  console.print(_points(state))
  num_known, num_programs = len(state.chosen()), len(_firsts(state))
  console.print(
    f"{state.num_chosen()} points ({state.num_chosen() - num_known} of them"
    f" follow the tuning), {state.num_over()} of them over;"
    f" {num_programs} program{'s' * (num_programs != 1)}.",
    highlight=False,
  )
  if plan.ladder is not None:
    for name, value in rungs.protocol(plan.ladder):
      text = escape.terminal(f"{name}: {value}.")
      console.print(text, soft_wrap=True, highlight=False)
  num_tuned = len(plan.ladder.methods if plan.ladder else plan.methods)
  said = comparison.budget(plan.tunings, num_tuned, plan.search)
  said = f"Budget: {said}." if said else "Nothing is tuned."
  if plan.search is not None and plan.search.max_extensions:
    said += " Where a best lies on an edge, all grids grow, and the budget too."
  console.print(said, highlight=False, soft_wrap=True)
  if said := _attainable(state):
    console.print(
      f"What it can decide: {said}", highlight=False, soft_wrap=True
    )
  if said := _error(state):
    console.print(said, highlight=False, soft_wrap=True)


def _error(state: State) -> str:
  """How often the whole sweep's verdicts would be wrong, where simulated."""
  plan = state.plan
  if plan.baseline is None:
    return ""
  return simulate.sentence(
    len(plan.methods),
    _num_independent(plan),
    plan.tunings,
    plan.search,
    num_tuned=len(plan.tuned),
    exact=plan.divergence == WORST,
    has_ladder=plan.ladder is not None,
  )


def _attainable(state: State) -> str:
  """What the whole sweep's seeds can decide, or ""."""
  plan = state.plan
  num_comparisons = len(plan.methods) - 1
  if plan.ladder is not None:
    num_comparisons = plan.ladder.num_comparisons
  if plan.baseline is None or not num_comparisons:
    return ""
  exact = plan.divergence == WORST
  count = _num_independent(plan)
  said = str(statistics.attainable(count, num_comparisons, exact=exact))
  if count < len(plan.seeds):
    said += (
      f" The data is cross-validated: {len(plan.seeds)} seeds have {count}"
      " folds, and seeds of one fold count once, by their mean."
    )
  return said


def _num_independent(plan: Plan) -> int:
  """Final seeds, or the folds that these are measured on."""
  num_folds = (plan.config.get("data") or {}).get("num_folds")
  if not num_folds:
    return len(plan.seeds)
  from normjax.data import folds  # Late: imports jax.

  return len({folds.of_seed(seed, num_folds) for seed in plan.seeds})


def programs(
  state: State,
  num_workers: int,
  console: rich.console.Console,
  estimate: Estimate | None = None,
) -> None:
  """Compiles the programs, and prints what each costs as soon as it is known.

  Args:
    state: as for `points`.
    num_workers: that would share the work.
    console: to print on.
    estimate: from a resolved config to `num_params`,
      `optimizer_state_bytes`, `flops_per_step`, `step_s` and, where it can
      tell, `peak_bytes`, `compile_s`; called once per program;
      `normjax.train.estimate` unless given.
  """
  estimate = estimate or _estimate()
  firsts = _firsts(state)
  left = [*state.left(), *_later(state)]
  times_s: list[float | None] = []
  for number, (program, point) in enumerate(firsts.items(), 1):
    named = f"program {number} of {len(firsts)}, {program[:8]}"
    # Drawn on a terminal only.
    with console.status(f"compiling {named}"):
      cost = estimate(ConfigDict(point.config))
    own = [p for p in left if p.program == program]
    known = (*state.chosen(), *state.to_come())
    labels_here = [p.method for p in known if p.program == program]
    own_s = [_run_s(cost, p) for p in own]
    if own:
      own_s.append(cost.get("compile_s") or 0.0)
    said = f"{named} ({', '.join(dict.fromkeys(labels_here))}):"
    said += f" {len(own)} points left"
    text = f"{said}; {_told(cost)}; {_time(own_s)}"
    console.print(escape.terminal(text), soft_wrap=True)
    times_s += own_s
  known = None not in times_s
  total = seconds(sum(times_s) / num_workers) if known else "unknown time"
  console.print(
    f"Left: about {total} on {num_workers} workers, without evaluation.",
    highlight=False,
  )


def _firsts(state: State) -> dict[str, Point]:
  """A point of each program."""
  found: dict[str, Point] = {}
  for point in (*state.chosen(), *state.to_come()):
    found.setdefault(point.program, point)
  return found


def _told(cost: Cost) -> str:
  """What a program costs, in words."""
  params, step_s = cost.get("num_params"), cost.get("step_s")
  flops, compile_s = cost.get("flops_per_step"), cost.get("compile_s")
  parts = [
    f"{'?' if params is None else f'{params:,}'} parameters",
    f"optimizer state {_megabytes(cost.get('optimizer_state_bytes'))}",
    f"peak memory {_memory(cost)}",
    f"{'?' if flops is None or math.isnan(flops) else f'{flops / 1e9:.3g}'}"
    f" GFLOP and {'?' if step_s is None else f'{step_s * 1e3:.3g}'} ms per"
    " step",
  ]
  if compile_s is not None:
    parts.append(f"compiled in {compile_s:.1f} s")
  return ", ".join(parts)


def _time(times_s: Sequence[float | None]) -> str:
  return "? s" if None in times_s else f"{seconds(sum(times_s))} in all"


def _later(state: State) -> list[Point]:
  """A stand-in for each point that the tuning has yet to decide."""
  firsts = dict(state.plan.standins)
  firsts |= {point.method: point for point in reversed(state.chosen())}
  return [
    firsts[label]
    for label in sorted(state.selection.labels)
    for _ in range(state.plan.num_coming(label, state.selection.seeds))
  ]


def _points(state: State) -> rich.table.Table:
  title = f"sweep {state.plan.sweep_id}"
  table = rich.table.Table(
    title=title,
    title_justify="left",
    box=None,
    pad_edge=False,
    collapse_padding=True,
  )
  for name in ("run", "stage", "method", "tuned", "seed", "program", "state"):
    # A run is looked up by its id: it stays in one piece on narrow terminals.
    table.add_column(name, overflow="fold", no_wrap=name in ("run", "program"))
  for point in state.chosen():
    table.add_row(
      point.run_id,
      point.stage,
      escape.terminal(point.method),
      escape.terminal(labels.tuned(point.tuned)),
      str(point.seed),
      escape.terminal(point.program[:8]),
      state.entries[point.run_id].state,
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
  from normjax import data, train

  def estimate(config: ConfigDict) -> dict[str, float]:
    with data.shapes_suffice():
      return train.estimate(config)

  return estimate
