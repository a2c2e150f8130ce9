"""What the loss of a simulated run is, and where its numbers come from."""

import dataclasses
import math

from normjax import errors

# A difference of two runs of one seed has this many times a run's spread.
PAIRED_SD = math.sqrt(2)


@dataclasses.dataclass(frozen=True)
class Surface:
  """The final loss as a function of method, rate and seed.

      loss(m, s, r) = level_m + c_m ln²(r / r*_m)
                      + shared_s + own_ms + trial_msr

  The unit is the standard deviation of own + trial: of a method's runs over
  seeds, without what all methods share. Each simulated sweep draws c and r* of
  its methods anew, and every run its noise.

  The defaults are those of the tuned decoders of `configs/sweeps/tuned.py`
  (`experiments/LOG.md`: 60 trials and 60 final runs). The ten rows that train
  have a spread of 0.0145 nats of their own and 0.0025 that is shared. Parabolas
  through the best rate and its neighbours, of the eight rows with LayerNorm,
  RMSNorm or SinkGD that have no cliff there, have 0.073 to 0.152 nats per
  squared e-fold: 5.0 to 10.5 in this unit. No row's best rate was more than a
  factor 4 from its first guess, most were at it.

  Attributes:
    curvature: c, in runs' standard deviations per squared e-fold of the rate:
      log-uniform between these two.
    misplaced: |ln(r* / the grid's centre)| is uniform from 0 to this.
    cliff: above r*, c is this many times as large; 1 makes a parabola.
    shared_sd: of what all methods share on one seed.
    own_share: of the variance of own + trial, the part that all rates of one
      method and seed share. 0 where changing the rate redraws all of it, as
      changing the norm or the optimizer nearly does.
  """

  curvature: tuple[float, float] = (5.0, 10.5)
  misplaced: float = math.log(3)
  cliff: float = 1.0
  shared_sd: float = 0.17
  own_share: float = 0.0

  def __post_init__(self):
    """Checks the ranges."""
    low, high = self.curvature
    if not 0 < low <= high < math.inf:
      raise errors.UserError(
        f"Surface.curvature needs 0 < low <= high, got {self.curvature!r}."
      )
    for name, low in (("misplaced", 0), ("shared_sd", 0), ("cliff", 1)):
      if not low <= getattr(self, name) < math.inf:
        raise errors.UserError(
          f"Surface.{name} must be >= {low}, got {getattr(self, name)!r}."
        )
    if not 0 <= self.own_share < 1:
      raise errors.UserError(
        f"Surface.own_share must be in [0, 1), got {self.own_share!r}."
      )
