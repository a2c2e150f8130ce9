"""Reads what a sweep, or a folder of runs, left on disk.

The only module of the report that knows the files' schema. A file that is
damaged costs its own run, never the report: it becomes a line of `problems`.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normjax import configure, errors
from normjax.record import files

PLAN = "plan.json"
ATTEMPTS = "attempts.jsonl"

# States of a run, beside those of status.json: planned and never started.
PENDING = "pending"
OVER = ("done", "diverged")


@dataclasses.dataclass(frozen=True)
class Method:
  """One row of the comparison.

  Attributes:
    label: its name in the plan.
    overrides: dotted path to value, over the base config.
    tuned: dotted path to chosen value; None until it is chosen.
    on_edge: the chosen value lies on an edge of its grid.
  """

  label: str
  overrides: Mapping[str, Any]
  tuned: Mapping[str, Any] | None = None
  on_edge: bool = False


@dataclasses.dataclass(frozen=True)
class Run:
  """One planned run and whatever it has left so far.

  Attributes:
    state: "pending", "running", "interrupted", "failed", "done", "diverged".
    message: what status.json or the ledger says about a failure.
    attempts: failed attempts in the ledger.
    record: run.json, or {}.
    status: status.json, or {}.
    result: result.json, or {}.
    rows: rows of metrics.jsonl.
  """

  run_id: str
  stage: str
  method: str
  overrides: Mapping[str, Any]
  seed: int
  state: str = PENDING
  message: str = ""
  attempts: int = 0
  record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  status: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  result: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  rows: tuple[Mapping[str, Any], ...] = ()

  def metric(self, name: str) -> float | None:
    """The final value of a run that is done; None for any other."""
    if self.state != "done":
      return None
    return self.result.get("metrics", {}).get(name)

  @property
  def gradient_zero_since(self) -> int | None:
    """The step from which to the end the gradient was 0 and the loss not."""
    return self.result.get("gradient_zero_since_step")

  def curve(self, kind: str, name: str) -> dict[int, float]:
    """Step to value; the last row wins where a step was logged twice."""
    return {
      row["step"]: row[name]
      for row in self.rows
      if row["kind"] == kind and row.get(name) is not None
    }


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A comparison: its plan, its runs, and what could not be read."""

  directory: Path
  sweep_id: str
  config_file: str
  config: Mapping[str, Any]
  metric: str
  mode: str
  baseline: str | None
  tuned_keys: tuple[str, ...]
  trials_per_method: int
  methods: tuple[Method, ...]
  runs: tuple[Run, ...]
  problems: tuple[str, ...] = ()
  other_metrics: tuple[str, ...] = ()

  def finals(self, label: str) -> list[Run]:
    """Runs of a method that the table is made from."""
    return [r for r in self.runs if r.stage == "final" and r.method == label]

  def trials(self, label: str) -> list[Run]:
    """Tuning runs of a method."""
    return [r for r in self.runs if r.stage == "tune" and r.method == label]

  @property
  def failed(self) -> list[Run]:
    """Runs whose last attempt failed."""
    return [run for run in self.runs if run.state == "failed"]


def load(out: Path) -> Sweep:
  """Reads a sweep directory; without a plan, a folder of single runs.

  Raises:
    RunError: `out` holds neither, or its plan is damaged.
  """
  out = Path(out)
  if (out / PLAN).is_file():
    return _load_sweep(out)
  directories = sorted(
    path.parent
    for pattern in (files.RUN, f"*/{files.RUN}", f"runs/*/{files.RUN}")
    for path in out.glob(pattern)
  )
  if not directories:
    raise errors.RunError(
      f"{out} has no {PLAN} and no runs: expected the directory that"
      " `normjax sweep CONFIG --out=DIR` wrote (plan.json, runs/), or a"
      " folder of runs that `normjax train` wrote (each with run.json)."
    )
  return _load_folder(out, directories)


def _load_sweep(out: Path) -> Sweep:
  plan = files.read_json(out / PLAN)
  if not isinstance(plan, dict) or plan.get("schema") != files.SCHEMA:
    schema = plan.get("schema") if isinstance(plan, dict) else None
    raise errors.RunError(
      f"{out / PLAN} has schema {schema!r}; this normjax reads {files.SCHEMA}."
    )
  problems: list[str] = []
  attempts = _read_attempts(out / ATTEMPTS, problems)
  try:
    runs = tuple(
      _load_run(out / "runs" / p["run_id"], dict(p), attempts, problems, out)
      for p in plan["points"]
    )
    return Sweep(
      directory=out,
      sweep_id=plan["sweep_id"],
      config_file=plan["config_file"],
      config=dict(plan["config"]),
      metric=plan["metric"],
      mode=plan["mode"],
      baseline=plan["baseline"],
      tuned_keys=tuple(plan["tuned"]),
      trials_per_method=plan["trials_per_method"],
      methods=tuple(
        Method(m["label"], m["overrides"], m["tuned"], m["on_edge"])
        for m in plan["methods"]
      ),
      runs=runs,
      problems=tuple(problems),
      # Plans of earlier versions have none.
      other_metrics=tuple(plan.get("other_metrics", ())),
    )
  except KeyError as error:
    raise errors.RunError(f"{out / PLAN} has no key {error}.") from error
  except (TypeError, ValueError, AttributeError) as error:
    raise errors.RunError(
      f"{out / PLAN} is not whole; `normjax sweep` makes it anew."
    ) from error


def _load_run(
  directory: Path,
  point: Mapping[str, Any],
  attempts: Mapping[str, list[Mapping[str, Any]]],
  problems: list[str],
  out: Path,
) -> Run:
  """One run; a damaged file counts as absent and is noted."""
  parts = {}
  for name in (files.RUN, files.STATUS, files.RESULT):
    try:
      value = files.read_json(directory / name)
    except errors.RunError as error:
      value = None
      problems.append(_relative(str(error), out) + "; counted as missing")
    parts[name] = value if isinstance(value, dict) else {}
  rows, dropped = files.read_rows(directory / files.METRICS)
  problems.extend(_relative(line, out) for line in dropped)

  history = attempts.get(point["run_id"], [])
  failures = [row for row in history if row.get("state") == "failed"]
  status, result = parts[files.STATUS], parts[files.RESULT]
  state = result.get("state") or status.get("state") or PENDING
  # A process that was killed could not say so in its status.
  if state in (PENDING, "running") and failures and history[-1] is failures[-1]:
    state = "failed"
  message = status.get("message") or ""
  if not message and failures:
    message = failures[-1].get("message") or ""
  return Run(
    run_id=point["run_id"],
    stage=point["stage"],
    method=point["method"],
    overrides=point["overrides"],
    seed=point["seed"],
    state=state,
    message=message,
    attempts=len(failures),
    record=parts[files.RUN],
    status=status,
    result=result,
    rows=tuple(rows),
  )


def _relative(text: str, out: Path) -> str:
  return text.replace(f"{out}/", "")


def _read_attempts(
  path: Path, problems: list[str]
) -> dict[str, list[Mapping[str, Any]]]:
  """Rows {"run_id", "state", "message"} of the sweep's ledger, by run."""
  attempts: dict[str, list[Mapping[str, Any]]] = {}
  if not path.exists():
    return attempts
  text = path.read_bytes().decode(errors="replace")
  for number, line in enumerate(text.splitlines(), 1):
    try:
      row = json.loads(line)
      attempts.setdefault(row["run_id"], []).append(row)
    except (ValueError, KeyError, TypeError):
      problems.append(f"{path.name}:{number} is not an attempt; dropped")
  return attempts


def _load_folder(out: Path, directories: list[Path]) -> Sweep:
  """Single runs as a comparison: those that differ in the seed are one row."""
  problems: list[str] = []
  loose = [
    _load_run(
      directory,
      {
        "run_id": directory.name,
        "stage": "final",
        "method": "",
        "overrides": {},
        "seed": 0,
      },
      {},
      problems,
      out,
    )
    for directory in directories
  ]
  loose = [run for run in loose if run.record.get("config")]
  if not loose:
    raise errors.RunError(f"{out}: no run.json could be read: {problems[0]}")
  flat = [dict(configure.leaves(run.record["config"])) for run in loose]
  seeds = [leaves.pop("seed", 0) for leaves in flat]
  differing = differing_keys(flat)
  overrides = [
    {key: leaves[key] for key in differing if key in leaves} for leaves in flat
  ]
  names = short_names(differing)
  labels = [
    ", ".join(f"{names[key]}={value}" for key, value in o.items()) or "runs"
    for o in overrides
  ]
  methods = {
    label: Method(label, o) for label, o in zip(labels, overrides, strict=True)
  }
  return Sweep(
    directory=out,
    sweep_id="",
    config_file="",
    config=loose[0].record["config"],
    metric="eval/loss",
    mode="min",
    baseline=None,
    tuned_keys=(),
    trials_per_method=0,
    methods=tuple(methods.values()),
    runs=tuple(
      dataclasses.replace(run, method=label, overrides=o, seed=seed)
      for run, label, o, seed in zip(
        loose, labels, overrides, seeds, strict=True
      )
    ),
    problems=tuple(problems),
  )


def differing_keys(flat: list[dict[str, Any]]) -> list[str]:
  """Keys whose value, or presence, is not the same in every mapping."""
  keys = dict.fromkeys(key for leaves in flat for key in leaves)
  return [
    key
    for key in keys
    if len({json.dumps(leaves.get(key, "absent")) for leaves in flat}) > 1
    or not all(key in leaves for leaves in flat)
  ]


def short_names(keys: list[str] | tuple[str, ...]) -> dict[str, str]:
  """Dotted path to its last part, where that is not ambiguous.

  `norm.name` reads better as `norm`.
  """
  last = {
    key: key.removesuffix(".name").rpartition(".")[2] or key for key in keys
  }
  count = Counter(last.values())
  return {key: key if count[last[key]] > 1 else last[key] for key in keys}
