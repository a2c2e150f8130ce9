"""What a `sweep()` returns: methods, seeds, tuning."""

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from normjax import configure, errors, fields
from normjax.record import target
from normjax.record.comparison import DIVERGENCE, VERDICT, Tuning
from normjax.sweep import checks, population
from normjax.sweep import ladder as ladder_lib
from normjax.sweep.costs import Costs
from normjax.sweep.space import Overrides
from normjax.sweep.tune_spec import Tune

# Tuning seeds are the final seeds plus this, unless told otherwise.
FIRST_TUNING_SEED = 1000


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A comparison: rows, seeds, tuning.

  Attributes:
    methods: one override dict per row; they do not set `seed`.
    seeds: of the final runs, the same for every method (paired: the same
      data order).
    tune: None runs every method as its config says.
    baseline: the method that the others are compared with: its label or an
      override dict that only it satisfies. None: the first.
    metric: of `result.json`, a target such as `steps_to(eval/loss<=2.0)` (see
      `record.target`), or a probe's as `last(weight_norm/head/kernel)` (see
      `record.probed`); decides the tuning and orders the report.
    mode: "min" or "max": which side of the metric is better. One that is not
      that of a loss or an accuracy is refused.
    other_metrics: of these kinds, too; columns beside the metric,
      which decide nothing.
    ladder: sizes and budgets at which every method is compared; None: the
      config's.
    labels: of the methods; None derives the shortest that tell them apart.
    divergence: what a diverged final run is in the report. "verdict": the
      method's verdict is "diverged 1 of 5", and nothing is tested on the rest.
      "worst": the worst rank, and every test is the exact signed-rank one.
    population: whether points of one program train as members of one
      compiled step. "off": each by itself. A number: at most so many together.
      "auto": both are timed once per program, and the faster one is kept. Off
      unless asked for, since a population rounds otherwise than its members
      alone do, and a small machine's cores are busy with one.
    costs: a file of what the methods take at a real size, beside the metric in
      the report, see `sweep.costs`; it decides nothing.
  """

  methods: Sequence[Overrides]
  seeds: Sequence[int] = (0, 1, 2)
  tune: Tune | None = None
  baseline: Overrides | str | None = None
  metric: str = "eval/loss"
  mode: str = "min"
  labels: Sequence[str] | None = None
  other_metrics: Sequence[str] = ()
  ladder: ladder_lib.Ladder | None = None
  divergence: str = VERDICT
  population: str | int = "off"
  costs: Costs | None = None

  def __post_init__(self):
    """Checks what can be checked without a config."""
    methods = checks.items("Sweep.methods", self.methods, "override dicts")
    if not methods:
      raise errors.UserError("Sweep.methods is empty.")
    methods = [_method(method) for method in methods]
    object.__setattr__(self, "methods", methods)
    object.__setattr__(self, "seeds", checks.seeds("Sweep.seeds", self.seeds))
    checks.string("Sweep.metric", self.metric)
    others = checks.items(
      "Sweep.other_metrics", self.other_metrics, "a tuple of names"
    )
    for name in others:
      checks.string("a name in Sweep.other_metrics", name)
    if len(set(others)) < len(others):
      raise errors.UserError(f"Sweep.other_metrics: one is twice in {others}.")
    object.__setattr__(self, "other_metrics", tuple(others))
    checks.one_of("Sweep.mode", self.mode, ("min", "max"))
    for name in (self.metric, *others):
      target.measured(name)  # Or says what is wrong with it.
    if target.parse(self.metric) is not None and self.mode == "max":
      raise errors.UserError(
        f"Sweep.metric {self.metric!r} is better where it is smaller, but"
        " Sweep.mode is 'max'."
      )
    if target.parse(self.metric) is None:
      checks.direction(self.metric, self.mode)
    checks.one_of("Sweep.divergence", self.divergence, DIVERGENCE)
    population.check("Sweep.population", self.population)
    if self.tune is not None:
      self._check_tune(self.tune)
    if self.labels is not None:
      labels = checks.items("Sweep.labels", self.labels, "strings")
      checks.labels(labels, len(methods))
      object.__setattr__(self, "labels", labels)
    checks.baseline(self.baseline)
    self._check_costs()
    if self.ladder is not None:
      ladder_lib.check(self.ladder, self)

  @property
  def tunings(self) -> tuple[Tuning, ...]:
    """Which there are, with the seeds of their trials.

    Raises:
      UserError: `Tune.seeds` has not one seed per final seed.
    """
    tune = self.tune
    if tune is None:
      return ()
    if tune.repeat == "shared":
      return (Tuning(tuple(tune.seeds or (FIRST_TUNING_SEED,))),)
    seeds = tune.seeds
    if seeds is None:
      seeds = {seed: FIRST_TUNING_SEED + seed for seed in self.seeds}
    elif not isinstance(seeds, Mapping):
      if len(seeds) != len(self.seeds):
        raise errors.UserError(
          f"Tune.seeds {seeds} has {len(seeds)} for the {len(self.seeds)}"
          f" final seeds {self.seeds}: tuning is repeated for each. Give one"
          " per final seed, or Tune.repeat='shared'."
        )
      seeds = dict(zip(self.seeds, seeds, strict=True))
    if set(seeds) != set(self.seeds):
      raise errors.UserError(
        f"Tune.seeds has the final seeds {sorted(seeds)}; the sweep's are"
        f" {sorted(self.seeds)}."
      )
    return tuple(Tuning((seeds[seed],), 0, seed) for seed in self.seeds)

  def _check_costs(self) -> None:
    if not isinstance(self.costs, Costs | None):
      raise errors.UserError(
        f"Sweep.costs must be a Costs or None, got {self.costs!r}."
      )
    if self.costs is not None and self.ladder is not None:
      raise errors.UserError(
        f"Sweep.costs={self.costs!r} and Sweep.ladder do not go together: costs"
        " are of one size; allowed: one of the two."
      )

  def _check_seeds(self, tuning: Tuning) -> None:
    """Raises UserError for a seed of trials that is a final one too."""
    whose = (
      "" if tuning.for_seed is None else f" of final seed {tuning.for_seed}"
    )
    for seed in tuning.seeds:
      problem = fields.FIELDS["seed"].problem(seed)
      if problem:
        raise errors.UserError(
          f"the tuning seed {seed}{whose} {problem}: give Tune.seeds."
        )
      if seed in self.seeds:
        raise errors.UserError(
          f"the tuning seed {seed}{whose} is a final seed, too: a value tuned"
          " on a seed looks better on it than it is. Change Tune.seeds or"
          f" Sweep.seeds {self.seeds}."
        )

  def _check_tune(self, tune: Tune) -> None:
    if not isinstance(tune, Tune):
      raise errors.UserError(f"Sweep.tune must be a Tune, got {tune!r}.")
    for tuning in self.tunings:
      self._check_seeds(tuning)
    # A factor, or a function, may well start from the method's own value.
    if tune.relative or callable(tune.space):
      return
    for method in self.methods:
      for key in tune.space:
        if key in method:
          raise errors.UserError(
            f"method {method!r} sets {key!r}, which Tune.space varies:"
            " its value would never be used. Tune.relative=True makes the"
            " space factors of it."
          )


def load(path: str, config: ConfigDict) -> Sweep:
  """The sweep of `file.py` or `file.py:arg`.

  Raises:
    ConfigError: the file has no `sweep()`, or that fails.
  """
  file, arg = configure.split_argument(path)
  module = configure.load_module(file)
  if not callable(getattr(module, "sweep", None)):
    raise errors.ConfigError(
      f"config file {file} defines no sweep(): `normjax train` runs it once."
    )
  try:
    takes_arg = bool(inspect.signature(module.sweep).parameters)
  except (TypeError, ValueError):  # Not every built-in has one.
    takes_arg = False

  def collect(*args: str) -> Any:
    returned = module.sweep(*args)
    # A generator runs here, where its errors are told as the file's.
    is_lazy = isinstance(returned, Iterator)
    return list(returned) if is_lazy else returned

  returned = errors.located(
    module.__file__ or file, f"sweep() of {file} failed", collect
  )(*([arg] if takes_arg and arg else []))
  if not isinstance(returned, Sweep | list | tuple):
    raise errors.ConfigError(
      f"sweep() of {file} returned {type(returned).__name__}; a Sweep or a list"
      " of override dicts is needed."
    )
  return as_sweep(returned, config)


def as_sweep(
  value: Sweep | Iterable[Mapping[str, Any]], config: ConfigDict
) -> Sweep:
  """A `Sweep` of a plain list of points: their `seed` keys become seeds.

  A plain list may have one seed: it runs what it says, and compares nothing.

  Raises:
    UserError: methods have different seeds, so that they are not paired, or a
      `Sweep` has one seed.
  """
  if isinstance(value, Sweep):
    if len(value.methods) > 1 and len(value.seeds) == 1:
      raise errors.UserError(
        f"Sweep.seeds is {value.seeds}: one seed has no interval, and decides"
        " nothing. Give two or more, five to see a large effect; a plain list"
        " of override dicts just runs."
      )
    return value
  methods: list[Overrides] = []
  seeds: list[list[int]] = []
  places: dict[frozenset[Any], int] = {}
  for overrides in value:
    if not isinstance(overrides, Mapping):
      raise errors.UserError(
        f"sweep() must return override dicts, got {overrides!r}."
      )
    method = _method({k: v for k, v in overrides.items() if k != "seed"})
    key = frozenset((k, checks.frozen(v)) for k, v in method.items())
    place = places.setdefault(key, len(methods))
    if place == len(methods):
      methods.append(method)
      seeds.append([])
    seed = overrides.get("seed", config.get("seed"))
    if seed is None:
      raise errors.UserError(
        "sweep() gives points without 'seed', and the config has none either."
      )
    seeds[place].append(seed)
  if not methods:
    raise errors.UserError("sweep() returned no points.")
  for method, own in zip(methods, seeds, strict=True):
    if own != seeds[0]:
      raise errors.UserError(
        f"methods need the same seeds, to be paired: {methods[0]!r} has"
        f" {seeds[0]}, {method!r} has {own}."
      )
  return Sweep(methods=methods, seeds=tuple(seeds[0]))


def _method(method: Any) -> Overrides:
  """One row's overrides, with Python's own numbers.

  Raises:
    UserError: not a dict of plain values by dotted path.
  """
  if not isinstance(method, Mapping):
    raise errors.UserError(f"a method is a dict of overrides, got {method!r}.")
  if "seed" in method:
    raise errors.UserError(
      f"method {dict(method)!r} sets 'seed': seeds go into Sweep.seeds."
    )
  return {
    key: checks.plain(f"{key!r} of a method", value)
    for key, value in method.items()
  }
