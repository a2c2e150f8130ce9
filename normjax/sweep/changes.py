"""What differs between the sweep that a folder holds and the one asked for.

A run's name is the hash of its config. A component's default that has changed
gives other names, and the points run again: that must not go unsaid.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from normjax import errors
from normjax.record import comparison as record
from normjax.record import owner, rungs, sources
from normjax.record.directory import RUNS
from normjax.sweep.ledger import Ledger
from normjax.sweep.plan import Comparison, Plan
from normjax.sweep.spec import Sweep

_MOST_NAMED = 6


def of_points(old: Mapping[str, Any], plan: Plan, ledger: Ledger) -> list[str]:
  """Which points have other configs than the folder's runs, and in what.

  Args:
    old: the folder's `plan.json`.
    plan: of the same sweep, now.
    ledger: of the folder.

  Returns:
    One sentence, or none. Points that changed because tuning chose otherwise
    are no difference.
  """
  names = {point.run_id for point in plan.points}
  gone = [point for point in old["points"] if point["run_id"] not in names]
  now = {
    _key(point.stage, point.overrides, point.seed): point.config
    for point in (plan.points if gone else ())
  }
  methods: dict[str, list[str]] = {}  # What differs -> the methods.
  for point in gone:
    new = now.get(_key(point["stage"], point["overrides"], point["seed"]))
    was = ledger.directory.run(point["run_id"]).read_run().value
    if new is not None and was is not None:
      for text in owner.differences(was["config"], new):
        labels = methods.setdefault(text, [])
        if point["method"] not in labels:
          labels.append(point["method"])
  if not methods:
    return []
  changed = {label for labels in methods.values() for label in labels}
  finished = sum(
    ledger.record(point["run_id"]).state.over
    for point in gone
    if point["method"] in changed
  )
  said = [f"{text} ({', '.join(own)})" for text, own in methods.items()]
  return [
    f"{ledger.directory.out} was run with other values: {_join(said)}."
    f" {finished} finished run{'s' * (finished != 1)} no longer match; their"
    f" points run again, and what they left stays in {RUNS}/."
  ]


def of_choices(old: Mapping[str, Any], plan: Plan, ledger: Ledger) -> list[str]:
  """Which finished final runs tuning no longer asks for.

  As where a trial that had failed has its result now.

  Args:
    old: the `plan.json` that a call began with.
    plan: of the same sweep, now.
    ledger: of the folder.

  Returns:
    One sentence, or none.
  """
  now = {
    (p.method, p.seed): _json(p.overrides)
    for p in plan.points
    if p.stage == "final"
  }
  replaced = [
    f"{point['method']} seed {point['seed']} ({point['run_id']})"
    for point in old["points"]
    if point["stage"] == "final"
    and ledger.record(point["run_id"]).state.over
    and now.get((point["method"], point["seed"]), "")
    not in ("", _json(point["overrides"]))
  ]
  if not replaced:
    return []
  return [
    "tuning chooses otherwise than it did: other runs stand for"
    f" {_join(replaced)}; what those left stays in {RUNS}/"
  ]


def of_code(plan: Plan, ledger: Ledger) -> str:
  """Which begun runs are of other code of the user's own, in one sentence.

  Args:
    plan: of the sweep, now.
    ledger: of the folder.
  """
  now: dict[frozenset[str], dict[str, str]] = {}
  found: dict[str, list[str]] = {}  # Module -> runs, with their methods.
  for point in plan.points:
    names = sources.components(point.config)
    if not names:
      continue
    if names not in now:
      now[names] = sources.digests(names)
    directory = ledger.directory.run(point.run_id)
    for module in sources.changed_since(directory, now[names]):
      name = f"{point.method} seed {point.seed} ({point.run_id})"
      found.setdefault(module, []).append(name)
  return "; ".join(
    f"the code of {module!r} has changed since {len(runs)}"
    f" run{'s' * (len(runs) != 1)} began: {_join(runs)}"
    for module, runs in found.items()
  )


def of_sweeps(
  old: Mapping[str, Any], comparison: Comparison, ledger: Ledger
) -> str:
  """In what another sweep's plan differs from this sweep, in one sentence."""
  sweep = comparison.sweep
  said = list(owner.differences(old["config"], comparison.config))
  theirs = {_json(m["overrides"]): m["label"] for m in old["methods"]}
  ours = {_json(own): own for own in comparison.methods.values()}
  said += [
    f"method {label!r} is gone" for key, label in theirs.items()
    if key not in ours
  ]  # fmt: skip
  said += [
    f"method {key} is new" for key in ours if key not in theirs
  ]  # fmt: skip
  seeds = sorted({p["seed"] for p in old["points"] if p["stage"] == "final"})
  if seeds and seeds != sorted(sweep.seeds):
    said.append(f"the seeds were {seeds}, are {sorted(sweep.seeds)}")
  said += _of_ladders(old.get("ladder") or {}, comparison)
  for key in ("metric", "mode"):
    if old[key] != getattr(sweep, key):
      said.append(f"{key} was {old[key]!r}, is {getattr(sweep, key)!r}")
  said += _of_tuning(old, sweep)
  text = _join(said) if said else "the tuning differs"
  finished = [
    point["run_id"]
    for point in old["points"]
    if ledger.record(point["run_id"]).state.over
  ]
  lost = len(set(finished) - _names(comparison, ledger))
  return (
    f"{text}; of {len(finished)} finished runs there, {lost} are none of this"
    " one's"
  )


def _of_tuning(old: Mapping[str, Any], sweep: Sweep) -> list[str]:
  """In what the tuning differs, as far as a plan says it."""
  were = old_repeat, old_seeds = _repeat(record.tunings(old))
  are = repeat, seeds = _repeat(sweep.tunings)
  if old_repeat != repeat:
    return [f"tuning was {old_repeat}, is {repeat}"]
  if were != are and len(old_seeds) == len(seeds):
    return [f"the tuning seeds were {old_seeds}, are {seeds}"]
  search = record.search(old)
  if search is None or sweep.tune is None:
    return []
  return [
    f"Tune.{key} was {was!r}, is {now!r}"
    for key, was, now in (
      ("search", search.name, sweep.tune.search),
      ("second_pass", search.second_pass, sweep.tune.has_second_pass),
    )
    if was != now
  ]


def _repeat(tunings: Sequence[record.Tuning]) -> tuple[str, list[int]]:
  """How tuning was repeated, as `Tune` calls it, and the seeds of trials."""
  if not tunings:
    return "none", []
  word = "shared" if tunings[0].for_seed is None else "per_seed"
  return word, [seed for tuning in tunings for seed in tuning.seeds]


def _of_ladders(old: Mapping[str, Any], comparison: Comparison) -> list[str]:
  """In what ladders of the same rows differ."""
  if not old or comparison.rungs is None:
    return []
  new = rungs.to_json(comparison.rungs)
  said = []
  if old["tuned_at"] != new["tuned_at"]:
    said.append(
      f"the ladder was tuned at {old['tuned_at']}, is at {new['tuned_at']}"
    )
  for method, rule in new["transfer"].items():
    was = old["transfer"].get(method, rule)
    if was != rule:
      said.append(
        f"values of {method} were carried by {was!r}, are by {rule!r}"
      )
  return said


def _names(comparison: Comparison, ledger: Ledger) -> set[str]:
  """The run ids that the sweep asks for, as far as the folder's results say."""
  try:
    plan = comparison.plan(ledger)
  except errors.UserError:  # Results without this sweep's metric.
    return set()
  return {point.run_id for point in plan.points}


def _key(stage: str, overrides: Mapping[str, Any], seed: int) -> str:
  return _json([stage, dict(overrides), seed])


def _json(value: Any) -> str:
  return json.dumps(value, sort_keys=True)


def _join(said: Sequence[str]) -> str:
  return errors.few(said, _MOST_NAMED, "; ")
