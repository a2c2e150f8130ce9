"""Plans a sweep from its directory: the files are the truth."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from normjax.configure import ConfigDict
from normjax.record import files
from normjax.sweep import changes, ledger
from normjax.sweep import plan as plan_lib
from normjax.sweep.ledger import Entry
from normjax.sweep.plan import Plan, Point
from normjax.sweep.spec import Sweep


@dataclasses.dataclass(frozen=True)
class State:
  """A plan, the entries of its points, and what is wrong with its files."""

  plan: Plan
  entries: Mapping[str, Entry]
  notes: tuple[str, ...]

  def left(self) -> list[Point]:
    """Points without a result; those begun already come first."""
    left = [p for p in self.plan.points if not self.entries[p.run_id].over]
    return sorted(left, key=lambda p: self.entries[p.run_id].state != "partial")

  def num_over(self) -> int:
    """How many points have a result."""
    return sum(entry.over for entry in self.entries.values())


@dataclasses.dataclass(frozen=True)
class Planner:
  """One sweep and its directory.

  Attributes:
    sweep: what to compare.
    config: the base config.
    file: of the config, as it was asked for.
    out: the directory.
    program_key: of a config; None: `normjax.build.program_key`.
    programs: the keys known so far, by run id.
  """

  sweep: Sweep
  config: ConfigDict
  file: str
  out: Path
  program_key: plan_lib.ProgramKey | None = None
  programs: dict[str, str] = dataclasses.field(default_factory=dict)

  def claim(self) -> str:
    """Takes over what the directory's plan knows.

    Returns:
      What is wrong with the plan there, if anything.

    Raises:
      RunError: the directory holds another sweep.
    """
    old, note = ledger.read_plan(self.out)
    if old is not None:
      identity = plan_lib.sweep_id(self.sweep, self.config)
      ledger.check_same(
        self.out,
        old,
        identity,
        self.file,
        lambda: changes.of_sweeps(self.out, old, self.sweep, self.config),
      )
      # Asking anew is slow, and imports jax.
      self.programs.update(
        (point["run_id"], point["program"]) for point in old["points"]
      )
    return note

  def plan(self, failed: Mapping[str, str]) -> State:
    """The plan that the files now give.

    Args:
      failed: points that will get no result, by run id.
    """
    results = {run_id: {"state": plan_lib.FAILED} for run_id in failed}
    plan = plan_lib.plan(
      self.sweep,
      self.config,
      results | ledger.read_results(self.out),
      program_key=self.program_key,
      programs=self.programs,
    )
    self.programs.update((p.run_id, p.program) for p in plan.points)
    entries, notes = ledger.read(self.out, [p.run_id for p in plan.points])
    return State(plan, entries, tuple(notes))

  def changed(self, plan: Plan) -> list[str]:
    """In what the plan differs from the one that lies there, if anything."""
    old, _ = ledger.read_plan(self.out)
    return changes.of_points(self.out, old, plan) if old is not None else []

  def write(self, plan: Plan) -> None:
    """Writes `plan.json` where it says something new."""
    value = json.loads(json.dumps(plan_lib.to_json(plan, self.file)))
    if ledger.read_plan(self.out)[0] != value:
      files.write_json(self.out / ledger.PLAN, value)
