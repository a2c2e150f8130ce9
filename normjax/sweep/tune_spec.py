"""What a sweep says of its tuning."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from normjax import errors
from normjax.sweep import checks, search

Axes = Mapping[str, Sequence[Any]]

REPEATS = ("per_seed", "shared")
MAX_TRIALS = 10_000  # Per method and tuning; nobody means more.


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
    if not checks.is_int(self.max_extensions) or self.max_extensions < 0:
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
      return checks.seeds("Tune.seeds", self.seeds)
    if self.repeat == "shared":
      raise errors.UserError(
        f"Tune.seeds is a mapping, {dict(self.seeds)!r}, but Tune.repeat is"
        " 'shared': give the seeds alone."
      )
    finals = checks.seeds("Tune.seeds, its keys", self.seeds.keys())
    own = checks.seeds("Tune.seeds, its values", self.seeds.values())
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
      if not checks.is_int(value) or not 1 <= value <= MAX_TRIALS:
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
      if checks.limits(self.limits):
        raise errors.UserError(
          "Tune.limits bounds growth, and 'quasi_random' has none: its limits"
          " are the (low, high) of Tune.space."
        )
