"""Results that are kept: small, beside the paper's numbers."""

from pathlib import Path

from normjax import errors, papers
from normjax.papers import places, results
from normjax.report import paper
from normjax.reproduce.planned import Planned, overridden
from normjax.reproduce.running import Outcome


def check(plan: Planned) -> None:
  """Refuses what no run could make right, before anything is run.

  Raises:
    UserError: the table's configs are overridden.
  """
  if plan.another:
    raise errors.UserError(f"--save: {overridden(plan.another)}.")


def save(plan: Planned, outcome: Outcome) -> None:
  """Writes the results of a table that is all there.

  Raises:
    RunError: some final runs are missing, and none of them failed just now.
  """
  if not outcome.judged.is_complete:
    missing = errors.few(
      [
        f"{papers.shown(each.cell.ref)} {each.measured.num_over} of"
        f" {each.measured.num_planned or '?'}"
        for each in outcome.judged.cells
        if not each.measured.is_complete
      ]
    )
    said = f"not saved: final runs are missing ({missing})"
    if outcome.exit_code:
      plan.say(f"{said}; the same command goes on")
      return
    raise errors.RunError(
      f"{said}. Without --rows and --seeds the same command runs the rest."
    )
  name = plan.source.name
  # Without overrides: those that are left say where files lie.
  plans = {
    part: plan.source.sweep_id(plan.scale, part) for part in plan.records()
  }
  path = _folder(plan) / results.file_name(name, plan.scale)
  kept = paper.results(outcome.judged, name, plans, outcome.made)
  results.write(path, kept)
  plan.say(f"saved: {path}")


def _folder(plan: Planned) -> Path:
  """Beside the paper's numbers; of an installed copy in the current folder."""
  folder = plan.targets.path.parent
  package = Path(papers.__file__).resolve().parents[1]
  if folder.resolve().is_relative_to(package):
    folder = Path(places.EXPERIMENTS) / plan.table.paper
  return folder / "results"
