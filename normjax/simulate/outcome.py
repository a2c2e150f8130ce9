"""What the verdicts of simulated sweeps were, and a sentence on them."""

import dataclasses
import math

from normjax.simulate import protocol as protocol_lib
from normjax.simulate.protocol import Protocol
from normjax.simulate.surface import Surface


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How the verdicts of simulated sweeps were.

  A verdict is wrong where it says better or worse of a method that equals the
  baseline, or the contrary of what is true.

  Attributes:
    protocol: of all sweeps.
    surface: of all runs.
    sweeps: how many.
    better: methods that are better than the baseline; the others equal it.
    effect: by how much, see `run`.
    family_wise: share of sweeps with a wrong verdict, after Holm's adjustment.
    unadjusted_family_wise: the same of unadjusted intervals.
    best: share of sweeps of equals that call one of them best; None where some
      method is better in truth.
    per_comparison: share of comparisons of equals whose unadjusted interval
      leaves out 0; None where no method equals the baseline.
    power: share of methods that are better which are found so, after Holm's
      adjustment; None where there are none.
    unadjusted_power: the same of unadjusted intervals.
  """

  protocol: Protocol
  surface: Surface
  sweeps: int
  better: int
  effect: float
  family_wise: float
  unadjusted_family_wise: float
  best: float | None
  per_comparison: float | None
  power: float | None
  unadjusted_power: float | None

  @property
  def family_wise_se(self) -> float:
    """Monte-Carlo standard error of `family_wise`: sqrt(p (1 - p) / sweeps)."""
    return math.sqrt(self.family_wise * (1 - self.family_wise) / self.sweeps)

  def __str__(self) -> str:
    """One sentence, for a dry run and a report."""
    protocol = self.protocol
    tuning = {
      protocol_lib.PER_SEED: "tuned for each seed",
      protocol_lib.SHARED: "tuned once, with"
      f" {protocol.tuning_seeds} seed{'s' * (protocol.tuning_seeds > 1)}",
      protocol_lib.NONE: "at their best",
    }[protocol.tuning]
    if protocol.tuning != protocol_lib.NONE:
      apart = f"a factor {protocol.factor:.3g} apart"
      if protocol.search == protocol_lib.QUASI_RANDOM:
        tuning += f" on {protocol.values} quasi-random points about {apart}"
      else:
        tuning += f" on {protocol.values} values {apart}"
        tuning += " and a second pass" * protocol.second_pass
    runs = " (runs of a small decoder)" * (self.surface == Surface())
    methods = f"{protocol.methods} equal methods"
    wrong = "say better or worse of some method."
    if self.better:
      methods = (
        f"{protocol.methods} methods, {self.better} better by {self.effect:g}"
        " sd"
      )
      wrong = (
        f"err; {_percent(self.power)} of the methods that are better are found."
      )
    return (
      f"Simulated error{runs}: with {methods}, n = {protocol.seeds}, {tuning},"
      f" {_percent(self.family_wise)} (± {_percent(self.family_wise_se)}) of"
      f" sweeps {wrong}"
    )


def _percent(share: float) -> str:
  return f"{100 * share:.1f}%"
