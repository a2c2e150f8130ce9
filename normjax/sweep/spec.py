"""What a `sweep()` returns: methods, seeds, tuning."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from normjax import configure, errors, fields
from normjax.record import target
from normjax.record.comparison import DIVERGENCE, VERDICT
from normjax.sweep import checks
from normjax.sweep.space import Overrides

Axes = Mapping[str, Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Tune:
  """The tuning that every method gets, the baseline too.

  A round of trials is the full grid of `space`. Where some method's best
  value lies on an edge, every method's grid grows by one notch, so that the
  number of trials stays equal; after `max_extensions` rounds of growth, a
  method whose best still lies on an edge is marked. The best value is the
  one with the best mean of the sweep's metric over `seeds`; a value that
  diverged for any seed loses to all that did not.

  Attributes:
    space: dotted path to values, or a function from a method's resolved
      config to such a mapping; the grids of all methods have one shape.
    seeds: of the trials; the sweep's final seeds must be others.
    max_extensions: how often the grids may grow.
    relative: the values are factors of each method's own value.
    limits: dotted path to (low, high): growth never goes beyond, and a best
      value at a limit is not on an edge. For values that are all >= 0 the
      low limit is 0 unless told otherwise.
  """

  space: Axes | Callable[[ConfigDict], Axes]
  seeds: Sequence[int] = (1000,)
  max_extensions: int = 2
  relative: bool = False
  limits: Mapping[str, tuple[float, float]] = dataclasses.field(
    default_factory=dict
  )

  def __post_init__(self):
    """Checks what can be checked without a config."""
    object.__setattr__(self, "seeds", _seeds("Tune.seeds", self.seeds))
    if not _is_int(self.max_extensions) or self.max_extensions < 0:
      raise errors.UserError(
        "Tune.max_extensions must be >= 0 and an integer, got"
        f" {self.max_extensions!r}."
      )
    if not isinstance(self.relative, bool):
      raise errors.UserError(
        f"Tune.relative must be True or False, got {self.relative!r}."
      )
    if not callable(self.space):
      space = checks.axes("Tune.space", self.space)
      object.__setattr__(self, "space", space)
    object.__setattr__(self, "limits", checks.limits(self.limits))
    if not callable(self.space):
      checks.limits_of("Tune.limits", self.limits, self.space)


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
    labels: of the methods; None derives the shortest that tell them apart.
    divergence: what a diverged final run is in the report. "verdict": the
      method's verdict is "diverged 1 of 5", and nothing is tested on the rest.
      "worst": the worst rank, and every test is the exact signed-rank one.
  """

  methods: Sequence[Overrides]
  seeds: Sequence[int] = (0, 1, 2)
  tune: Tune | None = None
  baseline: Overrides | str | None = None
  metric: str = "eval/loss"
  mode: str = "min"
  labels: Sequence[str] | None = None
  other_metrics: Sequence[str] = ()
  divergence: str = VERDICT

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
    if self.divergence not in DIVERGENCE:
      raise errors.UserError(
        f"Sweep.divergence must be {' or '.join(map(repr, DIVERGENCE))}, got"
        f" {self.divergence!r}."
      )
    if self.tune is not None:
      self._check_tune(self.tune)
    if self.labels is not None:
      labels = checks.items("Sweep.labels", self.labels, "strings")
      checks.labels(labels, len(methods))
      object.__setattr__(self, "labels", labels)
    checks.baseline(self.baseline)

  def _check_tune(self, tune: Tune) -> None:
    if not isinstance(tune, Tune):
      raise errors.UserError(f"Sweep.tune must be a Tune, got {tune!r}.")
    shared = sorted(set(self.seeds) & set(tune.seeds))
    if shared:
      raise errors.UserError(
        f"seeds {shared} are both tuning and final seeds: a value tuned on"
        " a seed looks better on it than it is. Change Tune.seeds"
        f" {tuple(tune.seeds)} or Sweep.seeds {tuple(self.seeds)}."
      )
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

  Raises:
    UserError: methods have different seeds, so that they are not paired.
  """
  if isinstance(value, Sweep):
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
