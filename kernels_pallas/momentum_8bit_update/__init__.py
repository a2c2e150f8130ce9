"""One step of SGD with an 8-bit momentum, in place: arXiv:2110.02861."""

from kernels_pallas.momentum_8bit_update.api import (
  IMPLEMENTATIONS,
  OP,
  momentum_8bit_update,
)
from kernels_pallas.momentum_8bit_update.rule import RULE, Scalars
from kernels_pallas.step_8bit.rule import Blocks, Leaf

__all__ = [
  "IMPLEMENTATIONS",
  "OP",
  "RULE",
  "Blocks",
  "Leaf",
  "Scalars",
  "momentum_8bit_update",
]
