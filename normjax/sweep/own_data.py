"""Refuses to go on where the data of a sweep is not what its runs began with.

A run's name is the hash of its config, and the config names the data, not what
is in it: runs on other files would count as seeds of the same comparison.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from normjax import errors
from normjax.record.directory import RunRecord, SweepDirectory
from normjax.sweep.plan import Plan

_MOST_NAMED = 3


def check(out: Path, plan: Plan, entries: Mapping[str, RunRecord]) -> None:
  """Compares the data that runs began with to what it is now.

  Args:
    out: of the sweep.
    plan: its points.
    entries: what they have left, by run id.

  Raises:
    RunError: it is another; the message names the runs.
  """
  states = {run_id: entry.state for run_id, entry in entries.items()}
  begun = [
    point
    for point in plan.points
    if states[point.run_id].begun or states[point.run_id].over
  ]
  blocks: dict[str, list] = {}
  for point in begun:
    key = json.dumps(point.config["data"], sort_keys=True)
    blocks.setdefault(key, []).append(point)
  for points in blocks.values():
    # Of files that are not the user's nothing is said; then jax stays out.
    directory = SweepDirectory(out)
    told = directory.run(points[0].run_id).read_run().value or {}
    if "fingerprint" not in (told.get("provenance", {}).get("data") or {}):
      continue
    from normjax.train import data_change

    said = {
      point.run_id: data_change.problem(
        point.config, directory.run(point.run_id)
      )
      for point in points
    }
    if changed := {run_id: text for run_id, text in said.items() if text}:
      named = errors.few(list(changed), _MOST_NAMED)
      count = "1 run was" if len(changed) == 1 else f"{len(changed)} runs were"
      raise errors.RunError(
        f"{out}: {count} trained on {next(iter(changed.values()))} ({named})."
        " Give a new --out, or put the old data back."
      )
