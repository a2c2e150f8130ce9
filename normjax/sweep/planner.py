"""Plans a sweep from its directory: the files are the truth."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from normjax import configure, errors
from normjax.configure import ConfigDict
from normjax.record.directory import RunRecord, SweepDirectory
from normjax.sweep import changes, select
from normjax.sweep import costs as costs_lib
from normjax.sweep import plan as plan_lib
from normjax.sweep.ledger import Ledger
from normjax.sweep.plan import Comparison, Plan, Point
from normjax.sweep.select import Selection
from normjax.sweep.spec import Sweep


@dataclasses.dataclass(frozen=True)
class State:
  """A plan, what its runs have left, and what is wrong with the files.

  Attributes:
    plan: of the whole sweep.
    entries: by run id.
    notes: what is wrong with files.
    selection: the part that is to be run.
  """

  plan: Plan
  entries: Mapping[str, RunRecord]
  notes: tuple[str, ...]
  selection: Selection

  def left(self) -> list[Point]:
    """Chosen points without a result; those begun already come first."""
    states = {run_id: each.state for run_id, each in self.entries.items()}
    left = [p for p in self.chosen() if not states[p.run_id].over]
    return sorted(left, key=lambda p: not states[p.run_id].begun)

  def chosen(self) -> list[Point]:
    """The points to be run, over or not, as far as they are known."""
    return self.selection.of(self.plan)

  def to_come(self) -> list[Point]:
    """A stand-in for each chosen method that has no point yet."""
    labels = self.selection.labels
    return [p for label, p in self.plan.standins.items() if label in labels]

  def num_chosen(self) -> int:
    """How many those are, with those that tuning has yet to decide."""
    return self.selection.num_points(self.plan)

  def warning(self) -> str:
    """What the numbers of a part do not show yet, or ""."""
    if not self.plan.tuned or self.selection.all_methods:
      return ""
    wanted = {
      tuning.for_seed
      for tuning in self.plan.tunings
      if self.selection.wants(tuning.for_seed)
    }
    known = [{c.for_seed for c in m.choices} for m in self.plan.methods]
    if all(wanted <= own for own in known):
      return ""
    return (
      "the chosen methods are tuned as if there were no others: once all are"
      " tuned, all grids may grow, and some final runs be replaced"
    )

  def num_over(self) -> int:
    """How many chosen points have a result."""
    return sum(self.entries[p.run_id].state.over for p in self.chosen())


class Planner:
  """One sweep and its directory."""

  def __init__(
    self,
    sweep: Sweep,
    config: ConfigDict,
    file: str,
    out: Path,
    program_key: plan_lib.ProgramKey | None = None,
    methods: select.Methods | None = None,
    seeds: Iterable[int] | None = None,
    overrides: Mapping[str, Any] | None = None,
  ):
    """Resolves the sweep's methods; reads nothing yet.

    Args:
      sweep: what to compare.
      config: the base config.
      file: of the config, as it was asked for.
      out: the directory.
      program_key: of a config; None: `normjax.build.program_key`.
      methods: which to run, like `seeds`; see `select.select`.
      seeds: of the final runs.
      overrides: that made the config; for its plan's file alone.

    Raises:
      UserError: a sweep that breaks the protocol, or a choice of nothing;
        costs that are not there, or of another sweep.
    """
    self._file = file
    self._overrides = {
      key: configure.plain(value) for key, value in (overrides or {}).items()
    }
    self._directory = SweepDirectory(out)
    self._ledger = Ledger(self._directory, sweep.metric)
    self._old: Mapping[str, Any] | None = None
    self._comparison = Comparison(sweep, config, program_key)
    self._costs = sweep.costs and costs_lib.look_up(
      sweep.costs, file, self._comparison.labels
    )
    chosen = select.select(self._comparison.labels, sweep.seeds, methods, seeds)
    self._selection = dataclasses.replace(
      chosen, labels=self._comparison.with_tuned(chosen.labels)
    )

  def claim(self) -> str:
    """Takes over what the directory's plan knows.

    Returns:
      What is wrong with the plan there, if anything.

    Raises:
      RunError: the directory holds another sweep.
    """
    old, problem = self._directory.read_plan()[:2]
    self._old = old
    if problem:
      return f"{problem}; made anew from the config"
    if old is not None:
      if old["sweep_id"] != self._comparison.sweep_id:
        differences = changes.of_sweeps(old, self._comparison, self._ledger)
        raise errors.RunError(
          f"{self._directory.out} holds sweep {old['sweep_id']} of"
          f" {old['config_file']}; this is sweep {self._comparison.sweep_id} of"
          f" {self._file}: {differences}. Give another --out, or the config and"
          " overrides of that sweep."
        )
      # Asking anew is slow, and imports jax.
      self._comparison.know_programs(
        {point["run_id"]: point["program"] for point in old["points"]}
      )
    return ""

  def plan(self, failed: Mapping[str, str]) -> State:
    """The plan that the files now give.

    Args:
      failed: points that will get no result, by run id.

    Raises:
      RunError: a run's files cannot be read here, and must not be replaced.
    """
    self._ledger.refresh(failed)
    chosen = self._selection
    plan = self._comparison.plan(
      self._ledger, each_alone=not chosen.all_methods
    )
    entries = {p.run_id: self._ledger.record(p.run_id) for p in plan.points}
    for entry in entries.values():
      if entry.blocked:
        raise errors.RunError(f"{entry.blocked}. Nothing was changed.")
    notes = self._ledger.notes(entries.values())
    return State(plan, entries, tuple(notes), chosen)

  def changed(self, plan: Plan) -> list[str]:
    """In what the plan differs from the one that lies there, if anything."""
    old = self._directory.read_plan().value
    return changes.of_points(old, plan, self._ledger) if old is not None else []

  def replaced(self, plan: Plan) -> list[str]:
    """Which final runs of the plan that was claimed are none any more."""
    if self._old is None:
      return []
    return changes.of_choices(self._old, plan, self._ledger)

  def changed_code(self, plan: Plan) -> str:
    """Which begun runs are of other code, in one sentence, or ""."""
    return changes.of_code(plan, self._ledger)

  def write(self, plan: Plan) -> None:
    """Writes `plan.json` where it says something new.

    Raises:
      RunError: another launcher has just begun another sweep here.
    """
    said = plan_lib.to_json(plan, self._file) | {"overrides": self._overrides}
    if self._costs is not None:
      said["costs"] = self._costs.to_json()
    if not self._directory.write_plan(said):
      self.claim()
      self._directory.write_plan(said)
