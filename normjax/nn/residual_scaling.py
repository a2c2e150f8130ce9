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
    formula: what multiplies a branch, for the reference; n branches.
    source: the paper.
  """

  name: str
  constant: Callable[[int], float] = lambda num_branches: 1.0
  learned: Literal["scalar", "vector"] | None = None
  initial: float = 1.0
  shared: bool = False
  zero_writers: bool = False
  inner_gain: Callable[[int], float] = lambda num_branches: 1.0
  offsets: bool = False
  formula: str = dataclasses.field(default="", compare=False)
  source: str = dataclasses.field(default="", compare=False)


def layer_scale(initial: float = 1e-4) -> ResidualScaling:
  """LayerScale, x + diag(a) F(x): Touvron et al. 2021, arXiv:2103.17239.

  Args:
    initial: of every entry of a.
  """
  return ResidualScaling(
    "layer_scale",
    learned="vector",
    initial=initial,
    formula="a learned vector, 1e-4 at first",
    source="Touvron et al. 2021, arXiv:2103.17239",
  )


TABLE: Table[ResidualScaling] = Table(
  "residual scaling",
  (
    ResidualScaling("none", formula="1"),
    ResidualScaling(
      "inverse_depth",
      constant=lambda n: 1 / n,
      formula="1 / n",
      source="Dherin, Munn 2025, arXiv:2510.03470",
    ),
    ResidualScaling(
      "inverse_sqrt_depth",
      constant=lambda n: 1 / math.sqrt(n),
      formula="1 / sqrt(n)",
      source="Dherin, Munn 2025, arXiv:2510.03470",
    ),
    ResidualScaling(
      "skip_init",
      learned="scalar",
      initial=0.0,
      formula="a learned scalar, 0 at first",
      source="De, Smith 2020, arXiv:2002.10444",
    ),
    # The official transformer has one factor per layer.
    ResidualScaling(
      "rezero",
      learned="scalar",
      initial=0.0,
      shared=True,
      formula="a learned scalar, 0 at first, one for both branches of a block",
      source="Bachlechner et al. 2020, arXiv:2003.04887",
    ),
    layer_scale(),
    # A branch of m = 2 kernels has L^(-1 / (2 m - 2)) on the first. Offsets
    # inside a branch are left to the layers' own biases.
    ResidualScaling(
      "fixup",
      learned="scalar",
      zero_writers=True,
      inner_gain=lambda n: 1 / math.sqrt(n),
      offsets=True,
      formula="a learned scalar, 1 at first; last kernels and the head start"
      " at zero",
      source="Zhang, Dauphin, Ma 2019, arXiv:1901.09321",
    ),
  ),
  {"layer_scale": layer_scale},
)
resolve = TABLE.resolve
