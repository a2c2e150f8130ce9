"""What was measured of each cell: from loaded sweeps, and from `measure`."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from normjax import errors, papers
from normjax.papers.statements import Ref, shown
from normjax.record import target
from normjax.record.directory import RunState
from normjax.registry import near_misses
from normjax.report import samples
from normjax.report.load import Run, SweepRecord


@dataclasses.dataclass(frozen=True)
class Measured:
  """What is known of one cell.

  Attributes:
    values: seed to value, of the runs that are done; of cross-validated data
      by fold, see `samples.Sample`.
    diverged: seeds of final runs that diverged, or ended at a value that is
      not finite.
    num_over: final runs that ended, by finishing or by diverging.
    num_planned: final runs; 0 where none is planned yet.
    resolution: the step of a metric that takes steps; 0: none is known.
    seeds: of the final runs.
    censored: whether the metric is a target that some run did not reach.
    computed: whether it is a value of `measure`, and no trained run's.
    is_tuned: whether its part tunes; None of what is computed.
    on_edge: whether a tuned value lies on an edge of its grid.
    metric: its name; "" of what is computed.
  """

  values: Mapping[int, float] = dataclasses.field(default_factory=dict)
  diverged: frozenset[int] = frozenset()
  num_over: int = 0
  num_planned: int = 0
  resolution: float = 0.0
  seeds: frozenset[int] = frozenset()
  censored: bool = False
  computed: bool = False
  is_tuned: bool | None = None
  on_edge: bool = False
  metric: str = ""

  @property
  def is_complete(self) -> bool:
    """Whether every planned final run is over."""
    return 0 < self.num_planned <= self.num_over

  @property
  def constant(self) -> float | None:
    """The value of what is computed once, by no chance; else None."""
    is_one = self.computed and len(self.values) == 1 and not self.diverged
    return next(iter(self.values.values())) if is_one else None


def measured(
  table: papers.Table,
  sweeps: Mapping[str, SweepRecord],
  computed: Mapping[Ref, Sequence[float]] | None = None,
) -> dict[Ref, Measured]:
  """What is known of each cell.

  Args:
    table: whose cells.
    sweeps: by part, as far as they were begun.
    computed: values of `measure`, one per seed, of the cells of that part;
      None: they were not computed yet.

  Raises:
    UserError: a cell is of a method or a metric that its part does not have,
      or its computed values are no numbers.
  """
  found: dict[Ref, Measured] = {}
  steps: dict[tuple[str, str], float] = {}
  for cell in table.cells:
    if cell.part == papers.MEASURE:
      found[cell.ref] = _computed(cell, computed)
    elif cell.part in sweeps:
      found[cell.ref] = _trained(cell, sweeps[cell.part], steps)
    else:
      found[cell.ref] = Measured()
  return found


def _computed(
  cell: papers.Cell, computed: Mapping[Ref, Sequence[float]] | None
) -> Measured:
  """A cell of `measure`. A value that is not finite counts as diverged."""
  if computed is None:
    return Measured(computed=True)
  name = shown(cell.ref)
  if cell.ref not in computed:
    names = [ref if isinstance(ref, str) else repr(ref) for ref in computed]
    given = errors.few(names, 12) or "none"
    raise errors.UserError(
      f"measure() gives no values of cell {name!r}; it gives: {given}."
    )
  values: Any = computed[cell.ref]
  try:
    if isinstance(values, str | bytes | Mapping):
      raise TypeError("its items are no numbers")
    numbers = [float(value) for value in values]
  except (TypeError, ValueError, OverflowError) as error:
    raise errors.UserError(
      f"measure() gives {values!r} of cell {name!r}; allowed: a list of"
      " numbers, one per seed."
    ) from error
  known = {s: v for s, v in enumerate(numbers) if math.isfinite(v)}
  count = len(numbers)
  return Measured(
    known,
    frozenset(range(count)) - known.keys(),
    count,
    count,
    seeds=frozenset(range(count)),
    computed=True,
  )


def _trained(
  cell: papers.Cell,
  sweep: SweepRecord,
  steps: dict[tuple[str, str], float],
) -> Measured:
  """A cell of a sweep; `steps` keeps resolutions by part and metric."""
  metric = sweep.metric if cell.metric is None else cell.metric
  methods = {method.label: method for method in sweep.methods}
  where = f"cell {shown(cell.ref)!r}"
  if cell.label not in methods:
    raise errors.UserError(
      f"{where}: part {cell.part!r} has no method {cell.label!r}."
      f"{near_misses(cell.label, methods)} Methods:"
      f" {errors.few(list(methods), 12)}."
    )
  runs = [_with(run, metric) for run in sweep.finals(cell.label)]
  _check_metric(where, cell.part, runs, metric)
  key = (cell.part, metric)
  if key not in steps:
    every = tuple(_with(run, metric) for run in sweep.runs)
    steps[key] = samples.resolution(
      dataclasses.replace(sweep, runs=every), metric
    )
  found = samples.sample(runs, metric)
  return Measured(
    found.values,
    found.diverged,
    found.num_over,
    max(sweep.num_seeds, len(runs)),
    steps[key],
    frozenset(found.units),
    found.censored,
    is_tuned=bool(sweep.tuned_keys),
    on_edge=methods[cell.label].on_edge,
    metric=metric,
  )


def _with(run: Run, metric: str) -> Run:
  """A run with a target that its sweep does not name as a metric of its own."""
  if not run.result or metric in run.result["metrics"]:
    return run
  result = target.add(run.result, [metric], lambda: run.rows)
  return dataclasses.replace(run, result=result)


def _check_metric(
  where: str, part: str, runs: Sequence[Run], metric: str
) -> None:
  """Raises UserError where runs are done, and none has the metric."""
  done = [run.result["metrics"] for run in runs if run.state is RunState.DONE]
  if not done or any(metric in found for found in done):
    return
  known = sorted({name for found in done for name in found})
  raise errors.UserError(
    f"{where}: no run of part {part!r} has metric {metric!r}."
    f"{near_misses(metric, known)} There: {errors.few(known, 12)}."
  )
