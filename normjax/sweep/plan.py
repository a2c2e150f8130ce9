"""Which runs a sweep needs, as far as its results so far can tell.

The protocol: every method gets the same number of tuning trials; a best
value on the edge of its grid makes the grids grow, or marks the method; the
final runs use other seeds than the trials, the same for every method.
`plan` is a pure function: the same results give the same plan, whoever asks
and however often the sweep was killed.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from normjax import configure, errors
from normjax.configure import ConfigDict
from normjax.sweep import labels as labels_lib
from normjax.sweep import tune as tune_lib
from normjax.sweep.space import Overrides
from normjax.sweep.spec import Sweep

SCHEMA = 1
FAILED = "failed"
Result = Mapping[str, Any]
ProgramKey = Callable[[ConfigDict], str]
Estimate = Callable[[ConfigDict], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Point:
  """One run.

  Attributes:
    overrides: of the base config; the method's and the tuned values.
    tuned: of the overrides, those that tuning varies.
    program: the key of the program that it compiles to.
    config: resolved, as plain dicts.
  """

  run_id: str
  stage: str
  method: str
  overrides: Overrides
  seed: int
  program: str
  tuned: Overrides = dataclasses.field(default_factory=dict)
  config: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True)
class Method:
  """One row of the comparison, with its tuned values once they are known."""

  label: str
  overrides: Overrides
  tuned: Overrides | None
  on_edge: bool


@dataclasses.dataclass(frozen=True)
class Plan:
  """The points known now; `num_points` counts the final runs to come too."""

  sweep_id: str
  config: dict[str, Any]
  metric: str
  mode: str
  other_metrics: tuple[str, ...]
  baseline: str | None
  tuned: tuple[str, ...]
  trials_per_method: int
  methods: tuple[Method, ...]
  points: tuple[Point, ...]
  num_points: int


def plan(
  sweep: Sweep,
  config: ConfigDict,
  results: Mapping[str, Result],
  *,
  program_key: ProgramKey | None = None,
  programs: Mapping[str, str] | None = None,
) -> Plan:
  """The points of a sweep that are known from the results so far.

  Args:
    sweep: what to compare.
    config: the base config.
    results: by run id, the `result.json` of what is over;
      `{"state": "failed"}` for what has no result and will get none: such a
      trial is worse than one that diverged, and such a final run is missing.
    program_key: the program that a config compiles to;
      `normjax.build.program_key` unless given.
    programs: program keys that are known already, by run id.

  Raises:
    UserError: a sweep that breaks the protocol, or a metric that results
      lack.
  """
  known = dict(programs or {})
  configs = [configure.override(config, method) for method in sweep.methods]
  names = list(sweep.labels or labels_lib.labels(sweep.methods, configs))
  labelled = dict(zip(names, sweep.methods, strict=True))

  def point(stage: str, label: str, values: Overrides, seed: int) -> Point:
    overrides = {**labelled[label], **values}
    resolved = configure.override(config, {**overrides, "seed": seed})
    plain = configure.to_dict(resolved)
    run_id = configure.digest(plain)
    if run_id not in known:
      known[run_id] = (program_key or _program_key())(resolved)
    return Point(
      run_id, stage, label, overrides, seed, known[run_id], values, plain
    )

  grids = first_grids(sweep, dict(zip(names, configs, strict=True)))
  points: dict[tuple[str, tune_lib.Values, int], Point] = {}
  chosen: dict[str, tune_lib.Values] = {}
  sides: dict[str, dict[int, int]] = {}
  tuned = True
  extensions = 0
  while grids:
    for label, grid in grids.items():
      for values in tune_lib.trials(grid):
        for seed in sweep.tune.seeds:
          if (label, values, seed) not in points:
            points[label, values, seed] = point(
              "tune", label, dict(zip(grid, values, strict=True)), seed
            )
    tuned = all(p.run_id in results for p in points.values())
    if not tuned:
      break
    for label, grid in grids.items():
      scores = {
        values: _mean(
          [
            score(sweep, results[points[label, values, seed].run_id])
            for seed in sweep.tune.seeds
          ]
        )
        for values in tune_lib.trials(grid)
      }
      chosen[label] = tune_lib.best(grid, scores)
      sides[label] = tune_lib.edges(
        grid, scores, chosen[label], sweep.tune.limits
      )
    if not any(sides.values()) or extensions == sweep.tune.max_extensions:
      break
    grown = tune_lib.grow_all(grids, chosen, sides, sweep.tune.limits)
    if grown is None:
      break
    grids = grown
    extensions += 1

  methods = []
  finals = []
  for label in names:
    values = None
    if grids and tuned:
      values = dict(zip(grids[label], chosen[label], strict=True))
    on_edge = bool(grids and tuned and sides[label])
    methods.append(Method(label, dict(labelled[label]), values, on_edge))
    if tuned:
      finals += [point("final", label, values or {}, s) for s in sweep.seeds]
  return Plan(
    sweep_id=sweep_id(sweep, config),
    config=configure.to_dict(config),
    metric=sweep.metric,
    mode=sweep.mode,
    other_metrics=tuple(sweep.other_metrics),
    baseline=labels_lib.baseline(sweep.baseline, names, configs),
    tuned=tuple(dict.fromkeys(k for g in grids.values() for k in g)),
    trials_per_method=len(points) // len(names),
    methods=tuple(methods),
    points=(*points.values(), *finals),
    num_points=len(points) + len(names) * len(sweep.seeds),
  )


def first_grids(
  sweep: Sweep, configs: Mapping[str, ConfigDict]
) -> dict[str, tune_lib.Axes]:
  """Each method's grid before any growth; empty where nothing is tuned."""
  if sweep.tune is None:
    return {}
  grids = {
    label: tune_lib.axes(sweep.tune, own) for label, own in configs.items()
  }
  tune_lib.check_equal(grids)
  return grids


def sweep_id(sweep: Sweep, config: ConfigDict) -> str:
  """The hash of the base config and of all that decides the runs.

  The baseline, the labels and other metrics are left out: they only change
  the report.
  """
  tune = None
  if sweep.tune is not None:
    tune = {
      "grids": [
        tune_lib.axes(sweep.tune, configure.override(config, method))
        for method in sweep.methods
      ],
      "seeds": list(sweep.tune.seeds),
      "max_extensions": sweep.tune.max_extensions,
      "limits": {key: list(v) for key, v in sweep.tune.limits.items()},
    }
  return configure.digest(
    {
      "config": configure.to_dict(config),
      "methods": [dict(method) for method in sweep.methods],
      "seeds": list(sweep.seeds),
      "tune": tune,
      "metric": sweep.metric,
      "mode": sweep.mode,
    }
  )


def score(sweep: Sweep, result: Result) -> float | None:
  """A result as a number to minimise: inf diverged, None failed.

  Raises:
    UserError: the run is done but has no such metric.
  """
  if result["state"] == FAILED:
    return None
  if result["state"] == "diverged":
    return math.inf
  metrics = result["metrics"]
  if sweep.metric not in metrics:
    raise errors.UserError(
      f"no metric {sweep.metric!r} in the results of run"
      f" {result.get('run_id')}; there are: {', '.join(sorted(metrics))}."
    )
  value = metrics[sweep.metric]
  if value is None:  # null in JSON: not finite
    return math.inf
  return value if sweep.mode == "min" else -value


def to_json(plan: Plan, config_file: str) -> dict[str, Any]:
  """What `plan.json` holds."""
  value = dataclasses.asdict(plan)
  del value["num_points"]
  for point in value["points"]:
    del point["config"], point["tuned"]
  return {"schema": SCHEMA, "config_file": config_file, **value}


def _mean(scores: list[float | None]) -> float | None:
  known = [value for value in scores if value is not None]
  return None if len(known) < len(scores) else sum(known) / len(known)


def _program_key() -> ProgramKey:
  from normjax import build

  return build.program_key
