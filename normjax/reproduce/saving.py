"""Results that are kept: small, beside the paper's numbers."""

import datetime
from collections.abc import Mapping
from pathlib import Path

from normjax import errors, papers
from normjax.papers import places, results
from normjax.record import provenance
from normjax.report import load, paper
from normjax.report.provenance import git
from normjax.reproduce import spent
from normjax.reproduce.planned import VALUES, Planned, overridden
from normjax.reproduce.running import Outcome
from normjax.sweep import machine

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


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
  name, records = plan.source.name, plan.records()
  plans = {part: record.sweep_id for part, record in records.items()}
  made = _made(plan, records)
  path = _folder(plan) / results.file_name(name, plan.scale)
  results.write(path, paper.results(outcome.judged, name, plans, made))
  plan.say(f"saved: {path}")


def _folder(plan: Planned) -> Path:
  """Beside the paper's numbers; of an installed copy in the current folder."""
  folder = plan.targets.path.parent
  package = Path(papers.__file__).resolve().parents[1]
  if folder.resolve().is_relative_to(package):
    folder = Path(places.EXPERIMENTS) / plan.table.paper
  return folder / "results"


def _made(plan: Planned, records: dict[str, load.SweepRecord]) -> results.Made:
  """Where the numbers came from, and what they took."""
  runs = [
    run for record in records.values() for run in record.runs if run.state.over
  ]
  told = [run.record.get("provenance") or {} for run in runs]
  commits = sorted({git(run).get("commit", "") for run in runs} - {""})
  if not runs:
    commits = [(provenance.git() or {}).get("commit", "")]
  is_computed = (plan.out / papers.MEASURE / VALUES).exists()
  count = spent.read(plan.out)
  is_known = (
    count.begun == count.ended and count.runs == len(runs) + is_computed
  )
  now = {"normjax": provenance.normjax.__version__, **provenance.packages()}
  versions: dict[str, dict[str, None]] = {}
  for each in told:  # More than one where a table was run over some time.
    packages = each.get("packages")
    own = packages if isinstance(packages, Mapping) else {}
    for key, version in {**own, "normjax": each.get("normjax")}.items():
      if isinstance(version, str) and key in ("normjax", *_PACKAGES):
        versions.setdefault(key, {})[version] = None
  lists = [each.get("devices") for each in told]
  devices = [str(d) for own in lists if isinstance(own, list) for d in own]
  return results.Made(
    date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    commit=" ".join(commits),
    versions={
      key: ", ".join(versions.get(key, {now[key]: None}))
      for key in ("normjax", *_PACKAGES)
      if key in versions or key in now
    },
    device=", ".join(dict.fromkeys(devices or ["cpu"])),
    cores=len(machine.usable_cores()),
    cpu_s=count.cpu_s if is_known else None,
    wall_s=count.wall_s if is_known else None,
    runs=len(runs),
  )
