"""How a simulated sweep proceeds."""

import dataclasses
import math

from normjax import errors

PER_SEED = "per_seed"
SHARED = "shared"
NONE = "none"
TUNINGS = (PER_SEED, SHARED, NONE)
GRID = "grid"
QUASI_RANDOM = "quasi_random"
SEARCHES = (GRID, QUASI_RANDOM)


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How a sweep of one tuned number proceeds.

  Attributes:
    methods: that are compared, the baseline too.
    seeds: final runs per method.
    values: of the first grid, or quasi-random points, per method and tuning.
    factor: between neighbours on the grid; of quasi-random points between
      limits, (high / low) ** (1 / values).
    tuning: "per_seed": each final seed has a tuning of its own, with one
      other seed; "shared": one tuning decides for all final seeds; "none":
      every run is at its method's optimum.
    tuning_seeds: shared only: a trial's score is its mean over so many.
    second_pass: of a grid: two more trials, half a notch below and above the
      best.
    max_extensions: how often the grids may grow by a notch.
    search: "grid" or "quasi_random": one point in each of as many equal parts
      of the range, the same ones for all methods, others in each tuning.
  """

  methods: int
  seeds: int
  values: int = 3
  factor: float = 3.0
  tuning: str = PER_SEED
  tuning_seeds: int = 1
  second_pass: bool = True
  max_extensions: int = 2
  search: str = GRID

  def __post_init__(self):
    """Checks the numbers."""
    lowest = {
      "methods": 1,
      "seeds": 1,
      "values": 2,
      "tuning_seeds": 1,
      "max_extensions": 0,
    }
    for name, low in lowest.items():
      value = getattr(self, name)
      if not isinstance(value, int) or value < low:
        raise errors.UserError(
          f"{name} must be a whole number >= {low}, got {value!r}."
        )
    if not 1 < self.factor < math.inf:
      raise errors.UserError(f"factor must be > 1, got {self.factor!r}.")
    for name, known in (("tuning", TUNINGS), ("search", SEARCHES)):
      value = getattr(self, name)
      if value not in known:
        raise errors.UserError(
          f"{name} must be one of {', '.join(known)}, got {value!r}."
        )

  @property
  def widest(self) -> int:
    """Values of a grid that has grown as often as it may; points."""
    if self.search == QUASI_RANDOM:
      return self.values
    return self.values + 2 * self.max_extensions

  @property
  def runs_per_final(self) -> int:
    """Runs that are drawn for one final run, at most, itself included."""
    return self.widest + 3
