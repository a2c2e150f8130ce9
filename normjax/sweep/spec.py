"""What a `sweep()` returns: methods, seeds, tuning."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from normjax import configure, errors, fields
from normjax.record import target
from normjax.record.comparison import Tuning
from normjax.sweep import checks, search
from normjax.sweep import ladder as ladder_lib
from normjax.sweep.space import Overrides

Axes = Mapping[str, Sequence[Any]]

REPEATS = ("per_seed", "shared")
MAX_TRIALS = 10_000  # Per method and tuning; nobody means more.
# Tuning seeds are the final seeds plus this, unless told otherwise.
FIRST_TUNING_SEED = 1000


@dataclasses.dataclass(frozen=True)
class Tune:
  """The tuning that every method gets, the baseline too.

  It is repeated for each final seed, on a seed of its own: the luck of one
  tuning is then in the interval of the final runs, as it must be. In each
  tuning all methods have equal numbers of trials. The best values are those
  with the best mean of the sweep's metric over the tuning's seeds; values that
  diverged for any seed lose to all that did not.

  `search` names how they are looked for:

  - "grid": all combinations. Where some method's best lies on an edge, every
    method's grid grows by one notch; after `max_extensions` rounds of growth,
    a method whose best still lies on an edge is marked.
  - "coordinate": one axis after the other in the order of the space, the rest
    at the best so far; see `search.coordinate`.
  - "quasi_random": `trials` points between the limits that the space gives;
    see `search.quasi_random`.

  The first two end with a second pass: on each numeric axis two more trials
  half a notch from the best, so a factor sqrt(3) for values a factor 3 apart.

  Attributes:
    space: dotted path to values, or a function from a method's resolved
      config to such a mapping. A key that one method tunes is tuned by all
      that have it. For "quasi_random" numbers are (low, high).
    seeds: of the trials; the sweep's final seeds must be others. Repeated
      tuning: a seed per final seed, as a mapping or in their order; None:
      1000 + the final seed. Shared tuning: any number; None: 1000.
    max_extensions: how often the grids may grow.
    relative: the values are factors of each method's own value.
    limits: dotted path to (low, high): growth never goes beyond, and a best
      value at a limit is not on an edge. For values that are all >= 0 the
      low limit is 0 unless told otherwise.
    repeat: "per_seed"; or "shared": one choice for all final seeds, cheaper
      by their number, whose luck no interval shows.
    second_pass: whether there is one.
    search: a name of `search.SEARCHES`.
    trials: of "quasi_random": points per method and tuning.
    phases: of "coordinate": how often each axis is visited at most; None: 2.
  """

  space: Axes | Callable[[ConfigDict], Axes]
  seeds: Sequence[int] | Mapping[int, int] | None = None
  max_extensions: int = 2
  relative: bool = False
  limits: Mapping[str, tuple[float, float]] = dataclasses.field(
    default_factory=dict
  )
  repeat: str = "per_seed"
  second_pass: bool = True
  search: str = "grid"
  trials: int | None = None
  phases: int | None = None

  def __post_init__(self):
    """Checks what can be checked without a config."""
    checks.one_of("Tune.repeat", self.repeat, REPEATS)
    checks.one_of("Tune.search", self.search, search.SEARCHES.names())
    if self.seeds is not None:
      object.__setattr__(self, "seeds", self._own_seeds())
    if not _is_int(self.max_extensions) or self.max_extensions < 0:
      raise errors.UserError(
        "Tune.max_extensions must be >= 0 and an integer, got"
        f" {self.max_extensions!r}."
      )
    for name in ("relative", "second_pass"):
      if not isinstance(getattr(self, name), bool):
        raise errors.UserError(
          f"Tune.{name} must be True or False, got {getattr(self, name)!r}."
        )
    self._check_search()
    if not callable(self.space):
      space = checks.axes("Tune.space", self.space)
      object.__setattr__(self, "space", space)
    object.__setattr__(self, "limits", checks.limits(self.limits))
    if not callable(self.space):
      checks.limits_of("Tune.limits", self.limits, self.space)

  @property
  def has_second_pass(self) -> bool:
    """Whether there is one: quasi-random points have no neighbours."""
    return self.second_pass and self.search != "quasi_random"

  def _own_seeds(self) -> tuple[int, ...] | dict[int, int]:
    """What `seeds` says, as Python's integers."""
    if not isinstance(self.seeds, Mapping):
      return _seeds("Tune.seeds", self.seeds)
    if self.repeat == "shared":
      raise errors.UserError(
        f"Tune.seeds is a mapping, {dict(self.seeds)!r}, but Tune.repeat is"
        " 'shared': give the seeds alone."
      )
    finals = _seeds("Tune.seeds, its keys", self.seeds.keys())
    own = _seeds("Tune.seeds, its values", self.seeds.values())
    return dict(zip(finals, own, strict=True))

  def _check_search(self) -> None:
    """Raises UserError for an option of another search."""
    of = {"trials": "quasi_random", "phases": "coordinate"}
    for name, only in of.items():
      value = getattr(self, name)
      if value is None:
        continue
      if self.search != only:
        raise errors.UserError(
          f"Tune.{name} is {value!r}, but Tune.search is {self.search!r}:"
          f" allowed with {only!r} only."
        )
      if not _is_int(value) or not 1 <= value <= MAX_TRIALS:
        raise errors.UserError(
          f"Tune.{name} must be an integer from 1 to {MAX_TRIALS:,}, got"
          f" {value!r}."
        )
    if self.search == "quasi_random":
      if self.trials is None:
        raise errors.UserError(
          "Tune.search 'quasi_random' needs Tune.trials, the points per method"
          " and tuning."
        )
      if self.limits:
        raise errors.UserError(
          "Tune.limits bounds growth, and 'quasi_random' has none: its limits"
          " are the (low, high) of Tune.space."
        )


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
    metric: of `result.json`, or a target such as `steps_to(eval/loss<=2.0)`
      (see `record.target`); decides the tuning and orders the report.
    mode: "min" or "max".
    other_metrics: of `result.json`, or targets; columns beside the metric,
      which decide nothing.
    ladder: sizes and budgets at which every method is compared; None: the
      config's.
    labels: of the methods; None derives the shortest that tell them apart.
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

  def __post_init__(self):
    """Checks what can be checked without a config."""
    methods = checks.items("Sweep.methods", self.methods, "override dicts")
    if not methods:
      raise errors.UserError("Sweep.methods is empty.")
    methods = [_method(method) for method in methods]
    object.__setattr__(self, "methods", methods)
    object.__setattr__(self, "seeds", _seeds("Sweep.seeds", self.seeds))
    checks.string("Sweep.metric", self.metric)
    others = checks.items(
      "Sweep.other_metrics", self.other_metrics, "a tuple of names"
    )
    for name in others:
      checks.string("a name in Sweep.other_metrics", name)
    if len(set(others)) < len(others):
      raise errors.UserError(f"Sweep.other_metrics: one is twice in {others}.")
    object.__setattr__(self, "other_metrics", tuple(others))
    for name in (self.metric, *others):
      target.parse(name)  # Or says what is wrong with it.
    if target.parse(self.metric) is not None and self.mode == "max":
      raise errors.UserError(
        f"Sweep.metric {self.metric!r} is better where it is smaller, but"
        " Sweep.mode is 'max'."
      )
    if self.mode not in ("min", "max"):
      raise errors.UserError(
        f"Sweep.mode must be 'min' or 'max', got {self.mode!r}."
      )
    if self.tune is not None:
      self._check_tune(self.tune)
    if self.labels is not None:
      labels = checks.items("Sweep.labels", self.labels, "strings")
      checks.labels(labels, len(methods))
      object.__setattr__(self, "labels", labels)
    checks.baseline(self.baseline)
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

  def _check_seeds(self, tuning: Tuning) -> None:
    """Raises UserError for a seed of trials that is a final one too."""
    whose = (
      "" if tuning.for_seed is None else f" of final seed {tuning.for_seed}"
    )
    for seed in tuning.seeds:
      problem = fields.FIELDS["seed"].problem(seed)
      if problem:
        raise errors.UserError(f"the tuning seed {seed}{whose} {problem}.")
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


def _seeds(name: str, seeds: Any) -> tuple[int, ...]:
  """Seeds as Python's integers, each once."""
  values = [
    configure.plain(s)
    for s in checks.items(name, seeds, "one or more different whole numbers")
  ]
  if (
    not values
    or not all(map(_is_int, values))
    or len(set(values)) < len(values)
  ):
    raise errors.UserError(
      f"{name} needs one or more different whole numbers, got {seeds!r}."
    )
  for seed in values:
    problem = fields.FIELDS["seed"].problem(seed)
    if problem:
      raise errors.UserError(f"{name}: seed {seed} {problem}.")
  return tuple(values)


def _is_int(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)
