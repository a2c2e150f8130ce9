"""One step of Lion with an 8-bit momentum, in place: arXiv:2302.06675."""

from kernels_pallas.lion_8bit_update.api import (
  IMPLEMENTATIONS,
  OP,
  lion_8bit_update,
)
from kernels_pallas.lion_8bit_update.rule import RULE, Scalars
from kernels_pallas.step_8bit.rule import Blocks, Leaf

__all__ = [
  "IMPLEMENTATIONS",
  "OP",
  "RULE",
  "Blocks",
  "Leaf",
  "Scalars",
  "lion_8bit_update",
]
