"""What a `sweep()` returns: methods, seeds, tuning."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from normjax import configure, errors
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
    _check_seeds("Tune.seeds", self.seeds)
    if self.max_extensions < 0:
      raise errors.UserError(
        f"Tune.max_extensions must be >= 0, got {self.max_extensions!r}."
      )


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A comparison: rows, seeds, tuning.

  Attributes:
    methods: one override dict a row; they do not set `seed`.
    seeds: of the final runs, the same for every method (paired: the same
      data order).
    tune: None runs every method as its config says.
    baseline: the method that the others are compared with: its label or an
      override dict that only it satisfies. None: the first.
    metric: of `result.json`; decides the tuning and orders the report.
    mode: "min" or "max".
    other_metrics: of `result.json`; columns beside the metric, which decide
      nothing.
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

  def __post_init__(self):
    """Checks what can be checked without a config."""
    if not len(self.methods):
      raise errors.UserError("Sweep.methods is empty.")
    for method in self.methods:
      if not isinstance(method, Mapping):
        raise errors.UserError(
          f"a method is a dict of overrides, got {method!r}."
        )
      if "seed" in method:
        raise errors.UserError(
          f"method {method!r} sets 'seed': seeds go into Sweep.seeds."
        )
    _check_seeds("Sweep.seeds", self.seeds)
    if isinstance(self.other_metrics, str):
      raise errors.UserError(
        f"Sweep.other_metrics={self.other_metrics!r} must be a tuple of names."
      )
    if self.mode not in ("min", "max"):
      raise errors.UserError(
        f"Sweep.mode must be 'min' or 'max', got {self.mode!r}."
      )
    if self.tune is not None:
      shared = sorted(set(self.seeds) & set(self.tune.seeds))
      if shared:
        raise errors.UserError(
          f"seeds {shared} are both tuning and final seeds: a value tuned on"
          " a seed looks better on it than it is. Change Tune.seeds"
          f" {tuple(self.tune.seeds)} or Sweep.seeds {tuple(self.seeds)}."
        )
    if self.labels is not None and (
      len(self.labels) != len(self.methods)
      or len(set(self.labels)) != len(self.labels)
    ):
      raise errors.UserError(
        f"Sweep.labels needs {len(self.methods)} different labels,"
        f" got {list(self.labels)!r}."
      )


def load(path: str, config: ConfigDict) -> Sweep:
  """The sweep of `file.py` or `file.py:arg`.

  Raises:
    ConfigError: the file has no `sweep()`, or that fails.
  """
  file, _, arg = str(path).partition(":")
  module = configure.load_module(file)
  if not hasattr(module, "sweep"):
    raise errors.ConfigError(
      f"config file {file} defines no sweep(): `normjax train` runs it once."
    )
  takes_arg = bool(inspect.signature(module.sweep).parameters)
  try:
    returned = module.sweep(arg) if takes_arg and arg else module.sweep()
    if not isinstance(returned, Sweep):
      returned = list(returned)
  except errors.UserError:
    raise
  except Exception as error:
    raise errors.ConfigError(
      f"sweep() of {file} failed: {type(error).__name__}: {error}"
    ) from error
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
  for overrides in value:
    if not isinstance(overrides, Mapping):
      raise errors.UserError(
        f"sweep() must return override dicts, got {overrides!r}."
      )
    method = {k: v for k, v in overrides.items() if k != "seed"}
    if method not in methods:
      methods.append(method)
      seeds.append([])
    seeds[methods.index(method)].append(overrides.get("seed", config.seed))
  if not methods:
    raise errors.UserError("sweep() returned no points.")
  for method, own in zip(methods, seeds, strict=True):
    if own != seeds[0]:
      raise errors.UserError(
        f"methods need the same seeds, to be paired: {methods[0]!r} has"
        f" {seeds[0]}, {method!r} has {own}."
      )
  return Sweep(methods=methods, seeds=tuple(seeds[0]))


def _check_seeds(name: str, seeds: Sequence[int]) -> None:
  whole = all(isinstance(s, int) and not isinstance(s, bool) for s in seeds)
  if not len(seeds) or not whole or len(set(seeds)) != len(seeds):
    raise errors.UserError(
      f"{name} needs one or more different whole numbers, got {seeds!r}."
    )
