"""How a table was made: by what code and packages, on what, in what time."""

import datetime
from collections.abc import Mapping

from normjax import papers
from normjax.papers import kept
from normjax.record import provenance
from normjax.report import load
from normjax.report.provenance import git
from normjax.reproduce import spent
from normjax.reproduce.planned import VALUES, Planned
from normjax.sweep import machine

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def of(plan: Planned, records: Mapping[str, load.SweepRecord]) -> kept.Made:
  """Where a table's numbers came from, and what they took.

  Args:
    plan: of the table.
    records: of its sweeps, by part.
  """
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
  return kept.Made(
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
