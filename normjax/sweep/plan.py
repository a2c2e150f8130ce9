"""Which runs a sweep needs, as far as its results so far can tell.

The protocol: every method gets the same number of tuning trials; a best
value on the edge of its grid makes the grids grow, or marks the method; the
final runs use other seeds than the trials, the same for every method.
`plan` is a pure function: the same results give the same plan, whoever asks
and however often the sweep was killed.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from normjax import configure, errors
from normjax.configure import ConfigDict
from normjax.record.comparison import VERDICT, Method
from normjax.record.directory import RunState
from normjax.sweep import labels as labels_lib
from normjax.sweep import tune as tune_lib
from normjax.sweep.resolve import Resolver
from normjax.sweep.space import Overrides
from normjax.sweep.spec import Sweep

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
  num_seeds: int = 0
  divergence: str = VERDICT


class Tuning(NamedTuple):
  """How far the tuning has come.

  Attributes:
    grids: of each method, in the last round.
    trials: of all rounds.
    chosen: the best values of each method; empty while a trial has no result.
    sides: of each method, the axes on whose edge the best lies.
  """

  grids: Mapping[str, tune_lib.Axes]
  trials: Sequence[Point]
  chosen: Mapping[str, tune_lib.Values]
  sides: Mapping[str, Mapping[int, int]]


class Results(Protocol):
  """How runs ended, by run id: a dict will do."""

  def get(self, run_id: str, /) -> Result | None:
    """The `result.json` of a run that is over, else None.

    `{"state": "failed"}` says that there is no result and will be none: such
    a trial is worse than one that diverged, and such a final run is missing.
    """


def plan(
  sweep: Sweep,
  config: ConfigDict,
  results: Results,
  *,
  program_key: ProgramKey | None = None,
  programs: Mapping[str, str] | None = None,
) -> Plan:
  """The points of a sweep that are known from the results so far.

  Args:
    sweep: what to compare.
    config: the base config.
    results: of what is over.
    program_key: the program that a config compiles to;
      `normjax.build.program_key` unless given.
    programs: program keys that are known already, by run id.

  Raises:
    UserError: a sweep that breaks the protocol, or a metric that results
      lack.
  """
  return Comparison(sweep, config, program_key, programs).plan(results)


class Comparison:
  """A sweep and its base config: what no result changes, worked out once."""

  def __init__(
    self,
    sweep: Sweep,
    config: ConfigDict,
    program_key: ProgramKey | None = None,
    programs: Mapping[str, str] | None = None,
  ):
    """Resolves the methods; see `plan`."""
    self.sweep = sweep
    self.config = configure.to_dict(config)
    self._resolver = Resolver(config)
    self._program_key = program_key
    self._programs = dict(programs or {})
    self._points: dict[Any, Point] = {}
    configs = [self._resolver.plain(method) for method in sweep.methods]
    names = list(sweep.labels or labels_lib.labels(sweep.methods, configs))
    self._methods = dict(zip(names, sweep.methods, strict=True))
    self._grids = self._first_grids()
    self._baseline = labels_lib.baseline(sweep.baseline, names, configs)
    self.sweep_id = self._sweep_id()

  def know_programs(self, programs: Mapping[str, str]) -> None:
    """Takes over program keys, by run id, that are known already."""
    self._programs |= programs

  @property
  def labels(self) -> list[str]:
    """Of the methods."""
    return list(self._methods)

  def plan(self, results: Results, *, each_alone: bool = False) -> Plan:
    """The points that are known from the results so far.

    Args:
      results: of what is over.
      each_alone: for part of a sweep. As long as the tuning of all methods is
        not over, a method whose own is over as if there were no other has its
        final runs. Once the others are tuned, its grid may grow again.
    """
    sweep = self.sweep
    tuning = self._tune(results, self._grids)
    trials_per_method = len(tuning.trials) // len(self._methods)
    if each_alone and not tuning.chosen:
      tuning = self._tune_alone(results, tuning)
    grids, points, chosen, sides = tuning
    methods = []
    finals = []
    for label, overrides in self._methods.items():
      values = None
      if label in chosen:
        values = dict(zip(grids[label], chosen[label], strict=True))
      on_edge = label in chosen and bool(sides[label])
      methods.append(Method(label, dict(overrides), values, on_edge))
      if values is not None or not grids:
        finals += [
          self._point("final", label, values or {}, seed)
          for seed in sweep.seeds
        ]
    return Plan(
      sweep_id=self.sweep_id,
      config=self.config,
      metric=sweep.metric,
      mode=sweep.mode,
      other_metrics=tuple(sweep.other_metrics),
      baseline=self._baseline,
      tuned=tuple(dict.fromkeys(k for g in grids.values() for k in g)),
      trials_per_method=trials_per_method,
      methods=tuple(methods),
      points=(*points, *finals),
      num_points=len(points) + len(methods) * len(sweep.seeds),
      num_seeds=len(sweep.seeds),
      divergence=sweep.divergence,
    )

  def _tune_alone(self, results: Results, together: Tuning) -> Tuning:
    """The tuning of each method as if there were no other.

    Args:
      results: of what is over.
      together: how far the tuning of all has come; its trials stay.
    """
    grids = dict(together.grids)
    trials, chosen, sides = [], {}, {}
    for label, grid in self._grids.items():
      alone = self._tune(results, {label: grid})
      own = [point for point in together.trials if point.method == label]
      trials += {p.run_id: p for p in (*own, *alone.trials)}.values()
      if alone.chosen:
        grids |= alone.grids
        chosen |= alone.chosen
        sides |= alone.sides
    return Tuning(grids, trials, chosen, sides)

  def _tune(
    self, results: Results, grids: Mapping[str, tune_lib.Axes]
  ) -> Tuning:
    """The trials that are known, and what their results choose.

    Args:
      results: of what is over.
      grids: of the methods that are tuned together, before any growth.
    """
    tune = self.sweep.tune
    points: dict[tuple[str, tune_lib.Values, int], Point] = {}
    chosen: dict[str, tune_lib.Values] = {}
    sides: dict[str, dict[int, int]] = {}
    extensions = 0
    while grids:
      for label, grid in grids.items():
        for values in tune_lib.trials(grid):
          tuned = dict(zip(grid, values, strict=True))
          for seed in tune.seeds:
            if (label, values, seed) not in points:
              made = self._point("tune", label, tuned, seed)
              points[label, values, seed] = made
      ended = {key: results.get(p.run_id) for key, p in points.items()}
      if None in ended.values():
        return Tuning(grids, list(points.values()), {}, sides)
      for label, grid in grids.items():
        scores = {
          values: _mean(
            [
              score(self.sweep, ended[label, values, seed])
              for seed in tune.seeds
            ]
          )
          for values in tune_lib.trials(grid)
        }
        chosen[label] = tune_lib.best(grid, scores)
        sides[label] = tune_lib.edges(grid, scores, chosen[label], tune.limits)
      if not any(sides.values()) or extensions == tune.max_extensions:
        break
      grown = tune_lib.grow_all(grids, chosen, sides, tune.limits)
      if grown is None:
        break
      grids = grown
      extensions += 1
    return Tuning(grids, list(points.values()), chosen, sides)

  def _point(
    self, stage: str, label: str, tuned: Overrides, seed: int
  ) -> Point:
    """A run, worked out where it was not before."""
    key = stage, label, seed, *tuned.items()
    if key not in self._points:
      overrides = {**self._methods[label], **tuned}
      plain = self._resolver.plain({**overrides, "seed": seed})
      run_id = configure.digest(plain)
      if run_id not in self._programs:
        self._programs[run_id] = self._program(overrides, seed, plain)
      self._points[key] = Point(
        run_id, stage, label, overrides, seed, self._programs[run_id], tuned,
        plain,
      )  # fmt: skip
    return self._points[key]

  def _program(
    self, overrides: Overrides, seed: int, plain: dict[str, Any]
  ) -> str:
    if self._program_key is not None:
      resolved = self._resolver.config({**overrides, "seed": seed})
      return self._program_key(resolved)
    from normjax import build  # Late: imports jax.

    return build.program_key(plain)

  def _first_grids(self) -> dict[str, tune_lib.Axes]:
    """Each method's grid before any growth; empty where nothing is tuned."""
    tune = self.sweep.tune
    if tune is None:
      return {}
    grids = {
      label: tune_lib.axes(tune, lambda own=own: self._resolver.config(own))
      for label, own in self._methods.items()
    }
    tune_lib.check_equal(grids)
    return grids

  def _sweep_id(self) -> str:
    """The hash of the base config and of all that decides the runs.

    The baseline, the labels, other metrics and what divergence is are left
    out: they only change the report.
    """
    sweep, tune = self.sweep, None
    if sweep.tune is not None:
      tune = {
        "grids": list(self._grids.values()),
        "seeds": list(sweep.tune.seeds),
        "max_extensions": sweep.tune.max_extensions,
        "limits": {key: list(v) for key, v in sweep.tune.limits.items()},
      }
    return configure.digest(
      {
        "config": self.config,
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
  if result["state"] == RunState.FAILED:
    return None
  if result["state"] == RunState.DIVERGED:
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
  # `dataclasses.asdict` would copy every point's config.
  value = {"config_file": config_file, **vars(plan)}
  value["methods"] = [vars(method) for method in plan.methods]
  value["points"] = [
    {
      "run_id": point.run_id,
      "stage": point.stage,
      "method": point.method,
      "overrides": point.overrides,
      "seed": point.seed,
      "program": point.program,
    }
    for point in plan.points
  ]
  return value


def _mean(scores: list[float | None]) -> float | None:
  known = [value for value in scores if value is not None]
  return None if len(known) < len(scores) else sum(known) / len(known)
