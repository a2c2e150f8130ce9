"""Which runs a sweep needs, as far as its results so far can tell.

The protocol: tuning is repeated for each final seed, on a seed of its own; in
each tuning every method gets the same number of trials, and is asked as
`Tune.search` says; the final runs use other seeds than the trials, the same for
every method. What trials are scored on, `trial_data` says.
`plan` is a pure function: the same results give the same plan, whoever asks
and however often the sweep was killed.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from normjax import configure
from normjax.configure import ConfigDict
from normjax.record import rungs as rungs_lib
from normjax.record.comparison import (
  VERDICT,
  Choice,
  Method,
  Search,
  Tuning,
)
from normjax.record.rungs import Rungs
from normjax.sweep import labels as labels_lib
from normjax.sweep import ladder as ladder_lib
from normjax.sweep import rows as rows_lib
from normjax.sweep import search as search_lib
from normjax.sweep import trial_data
from normjax.sweep import tune as tune_lib
from normjax.sweep.points import Point, Results
from normjax.sweep.resolve import Resolver
from normjax.sweep.space import Overrides
from normjax.sweep.spec import Sweep
from normjax.sweep.tuner import Tuner

ProgramKey = Callable[[ConfigDict], str]
Estimate = Callable[[ConfigDict], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Plan:
  """The points that are known now.

  Attributes:
    tuned: the keys that some method tunes.
    trials_per_method: the trials of all tunings, as far as they are known.
    tunings: how many trials each has, those that will follow too.
    search: how they look for the best values; None where nothing is tuned.
    seeds: of the final runs.
    ladder: what the methods are where they are rows of a ladder.
    standins: of methods without a point yet, or whose final runs are evaluated
      elsewhere than their trials, a final run as it would be with the values of
      a trial, by label. They are not part of the plan's file.
  """

  sweep_id: str
  config: dict[str, Any]
  metric: str
  mode: str
  other_metrics: tuple[str, ...]
  baseline: str | None
  tuned: tuple[str, ...]
  trials_per_method: int
  tunings: tuple[Tuning, ...]
  search: Search | None
  methods: tuple[Method, ...]
  points: tuple[Point, ...]
  seeds: tuple[int, ...]
  divergence: str = VERDICT
  ladder: Rungs | None = None
  standins: Mapping[str, Point] = dataclasses.field(default_factory=dict)

  @property
  def num_points(self) -> int:
    """Of the whole sweep, those that tuning has yet to decide too."""
    labels = [method.label for method in self.methods]
    return len(self.points) + sum(
      self.num_coming(x, self.seeds) for x in labels
    )

  def num_coming(self, label: str, seeds: Collection[int]) -> int:
    """How many points of a method tuning has yet to decide.

    Args:
      label: of the method.
      seeds: of final runs; those of other seeds are not counted.
    """
    choices = next(m.choices for m in self.methods if m.label == label)
    chosen = {choice.for_seed for choice in choices}
    has_trials = self.ladder is None or self.ladder.tuned_row(label) == label
    coming = 0
    for tuning in self.tunings:
      own = seeds if tuning.for_seed is None else {tuning.for_seed} & {*seeds}
      if own and tuning.for_seed not in chosen:
        coming += (tuning.later if has_trials else 0) + len(own)
    return coming


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
    self._rows = rows_lib.Rows(dict(zip(names, sweep.methods, strict=True)))
    self._baseline = labels_lib.baseline(sweep.baseline, names, configs)
    if sweep.ladder is not None:
      self._rows = rows_lib.expand(
        sweep.ladder, self._rows.methods, self._baseline, self._resolver.plain
      )
      self._baseline = self.rungs.row(self._baseline, *self.rungs.tuned_at)
    self._methods = dict(self._rows.methods)
    self._leaves = {
      label: dict(configure.leaves(self._resolver.plain(own)))
      for label, own in self._methods.items()
    }
    self._grids = self._first_grids()
    self._tuner = Tuner(sweep, self._grids, self._leaves, self._point)
    self.sweep_id = self._sweep_id()

  def know_programs(self, programs: Mapping[str, str]) -> None:
    """Takes over program keys, by run id, that are known already."""
    self._programs |= programs

  @property
  def labels(self) -> list[str]:
    """Of the methods."""
    return list(self._methods)

  @property
  def methods(self) -> dict[str, Overrides]:
    """The overrides of each."""
    return dict(self._methods)

  @property
  def rungs(self) -> Rungs | None:
    """Of a ladder, what the methods are."""
    return self._rows.rungs

  def with_tuned(self, labels: Iterable[str]) -> frozenset[str]:
    """Methods with those from whose tuning they have their values."""
    return frozenset(labels) | {self._rows.tuned_row(label) for label in labels}

  def plan(self, results: Results, *, each_alone: bool = False) -> Plan:
    """The points that are known from the results so far.

    Args:
      results: of what is over.
      each_alone: for part of a sweep. As long as the tuning of all methods is
        not over, a method whose own is over as if there were no other has its
        final runs. Once the others are tuned, its grid may grow again.
    """
    sweep = self.sweep
    tuned = {}
    for tuning in sweep.tunings:
      found = self._tuner.together(results, tuning)
      if each_alone and not found.found:
        found = self._tuner.alone(results, tuning, found)
      tuned[tuning] = found
    methods = []
    finals = []
    for label, overrides in self._methods.items():
      choices = tuple(
        self._choice(label, best, tuning)
        for tuning, own in tuned.items()
        if (best := own.found.get(self._rows.tuned_row(label))) is not None
      )
      method = Method(label, dict(overrides), choices)
      methods.append(method)
      for seed in sweep.seeds:
        values = (
          method.tuned_for(seed)
          if self._grids
          else self._rows.carried(label, {})
        )
        if values is not None:
          finals.append(self._point("final", label, values, seed))
    trials = [point for own in tuned.values() for point in own.trials]
    return Plan(
      sweep_id=self.sweep_id,
      config=self.config,
      metric=sweep.metric,
      mode=sweep.mode,
      other_metrics=tuple(sweep.other_metrics),
      baseline=self._baseline,
      tuned=tuple(dict.fromkeys(k for g in self._grids.values() for k in g)),
      trials_per_method=sum(own.size() - own.later for own in tuned.values()),
      tunings=tuple(
        dataclasses.replace(tuning, trials=own.size(), later=own.later)
        for tuning, own in tuned.items()
      ),
      search=self._search(),
      methods=tuple(methods),
      points=(*trials, *finals),
      seeds=sweep.seeds,
      divergence=sweep.divergence,
      ladder=self.rungs,
      standins=self._standins((*trials, *finals)),
    )

  def _standins(self, known: Sequence[Point]) -> dict[str, Point]:
    """See `Plan`; a trial stands for final runs that are evaluated alike."""
    firsts = {point.method: point for point in reversed(known)}
    ended = {point.method for point in known if point.stage == "final"}
    found = {}
    for label in self._methods:
      if label in ended:
        continue
      tuned = firsts[self._rows.tuned_row(label)].tuned
      values = self._rows.carried(label, tuned)
      standin = self._point("final", label, values, self.sweep.seeds[0])
      if label not in firsts or trial_data.split(standin.config):
        found[label] = standin
    return found

  def _choice(
    self, label: str, best: search_lib.Found, tuning: Tuning
  ) -> Choice:
    row = self._rows.tuned_row(label)
    values = self._rows.carried(label, self._named(row, best))
    return Choice(values, best.on_edge and row == label, tuning.for_seed)

  def _named(self, label: str, found: search_lib.Found) -> Overrides:
    """Values by dotted path."""
    return dict(zip(self._grids[label], found.values, strict=True))

  def _search(self) -> Search | None:
    """What a report says of the search; None where nothing is tuned."""
    tune = self.sweep.tune
    if tune is None:
      return None
    grid = self._grids[self._baseline or next(iter(self._grids))]
    values, factor = tune_lib.longest(grid)
    return Search(
      tune.search,
      tune.has_second_pass,
      0 if tune.search == "quasi_random" else tune.max_extensions,
      values,
      factor,
    )

  def _point(
    self,
    stage: str,
    label: str,
    tuned: Mapping[str, Any],
    seed: int,
    for_seed: int | None = None,
  ) -> Point:
    """A run, worked out where it was not before."""
    key = stage, label, seed, *tuned.items()
    if key not in self._points:
      overrides = {**self._methods[label], **tuned}
      if stage == "tune":
        split = trial_data.split(self._resolver.plain(overrides))
        overrides |= {"evaluate.split": split} if split else {}
      plain = self._resolver.plain({**overrides, "seed": seed})
      run_id = configure.run_id(plain)
      if run_id not in self._programs:
        self._programs[run_id] = self._program(overrides, seed, plain)
      self._points[key] = Point(
        run_id, stage, label, overrides, seed, self._programs[run_id],
        dict(tuned), plain, for_seed,
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
      label: tune_lib.axes_of(
        label, tune, lambda own=own: self._resolver.config(own)
      )
      for label, own in self._methods.items()
      if self._rows.tuned_row(label) == label
    }
    tune_lib.check_all_or_none(grids, self._methods, self._leaves)
    for label, grid in grids.items():
      if self.sweep.ladder is not None:
        ladder_lib.check_space(self.sweep.ladder, grid)
      block = self._resolver.plain(self._methods[label]).get("data", {})
      trial_data.check_folds(label, block, self.sweep.tunings)
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
        "seeds": [[t.for_seed, *t.seeds] for t in sweep.tunings],
        "search": sweep.tune.search,
        "second_pass": sweep.tune.second_pass,
        "trials": sweep.tune.trials,
        "phases": sweep.tune.phases,
        "max_extensions": sweep.tune.max_extensions,
        "limits": {key: list(v) for key, v in sweep.tune.limits.items()},
      }
    return configure.digest(
      {
        "config": configure.decisive(self.config),
        "methods": [dict(method) for method in sweep.methods],
        "seeds": list(sweep.seeds),
        "tune": tune,
        "metric": sweep.metric,
        "mode": sweep.mode,
      }
      | ({"ladder": vars(sweep.ladder)} if sweep.ladder else {})
    )


def to_json(plan: Plan, config_file: str) -> dict[str, Any]:
  """What `plan.json` holds."""
  # `dataclasses.asdict` would copy every point's config.
  value = {"config_file": config_file, **vars(plan)}
  value["num_points"] = plan.num_points
  value["num_seeds"] = len(plan.seeds)
  del value["seeds"], value["standins"]  # The points have them; see `Plan`.
  value["ladder"] = rungs_lib.to_json(plan.ladder) if plan.ladder else None
  value["search"] = vars(plan.search) if plan.search else None
  value["tunings"] = list(map(vars, plan.tunings))
  value["methods"] = [
    {**vars(method), "choices": list(map(vars, method.choices))}
    for method in plan.methods
  ]
  value["points"] = [
    {
      "run_id": point.run_id,
      "stage": point.stage,
      "method": point.method,
      "overrides": point.overrides,
      "seed": point.seed,
      "for_seed": point.for_seed,
      "program": point.program,
    }
    for point in plan.points
  ]
  return value
