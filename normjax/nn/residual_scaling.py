"""What multiplies a residual branch before it is added, as data.

x + constant * a * F(x), a learned or not. L counts branches, two per block.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

from normjax.registry import Table


@dataclasses.dataclass(frozen=True)
class ResidualScaling:
  """A rule for the branches of a stack.

  Attributes:
    name: as in a config.
    constant: number of branches to a fixed factor.
    learned: the shape of a learned factor, one number or one per feature.
    initial: its initial value.
    shared: whether both branches of a block have the same learned factor.
    zero_writers: whether the kernels that write to the stream, and the head,
      start at zero.
    inner_gain: number of branches to what multiplies the standard deviation
      of the other kernels of a branch at the start.
    offsets: whether learned scalars, zero at first, are added before and
      after each branch.
  """

  name: str
  constant: Callable[[int], float] = lambda num_branches: 1.0
  learned: Literal["scalar", "vector"] | None = None
  initial: float = 1.0
  shared: bool = False
  zero_writers: bool = False
  inner_gain: Callable[[int], float] = lambda num_branches: 1.0
  offsets: bool = False


def layer_scale(initial: float = 1e-4) -> ResidualScaling:
  """LayerScale, x + diag(a) F(x): Touvron et al. 2021, arXiv:2103.17239.

  Args:
    initial: of every entry of a.
  """
  return ResidualScaling("layer_scale", learned="vector", initial=initial)


TABLE: Table[ResidualScaling] = Table(
  "residual scaling",
  (
    ResidualScaling("none"),
    # Dherin, Munn 2025, arXiv:2510.03470.
    ResidualScaling("inverse_depth", constant=lambda n: 1 / n),
    ResidualScaling("inverse_sqrt_depth", constant=lambda n: 1 / math.sqrt(n)),
    # De, Smith 2020, arXiv:2002.10444.
    ResidualScaling("skip_init", learned="scalar", initial=0.0),
    # Bachlechner et al. 2020, arXiv:2003.04887; the official transformer has
    # one factor per layer.
    ResidualScaling("rezero", learned="scalar", initial=0.0, shared=True),
    layer_scale(),
    # Zhang, Dauphin, Ma 2019, arXiv:1901.09321: a branch of m = 2 kernels has
    # L^(-1 / (2 m - 2)) on the first. Offsets inside a branch are left to the
    # layers' own biases.
    ResidualScaling(
      "fixup",
      learned="scalar",
      zero_writers=True,
      inner_gain=lambda n: 1 / math.sqrt(n),
      offsets=True,
    ),
  ),
  {"layer_scale": layer_scale},
)
resolve = TABLE.resolve
