"""One step of Adam with 8-bit moments, in place: arXiv:2110.02861."""

from kernels_pallas.adam_8bit_update.api import (
  IMPLEMENTATIONS,
  OP,
  adam_8bit_update,
)
from kernels_pallas.adam_8bit_update.rule import RULE, Scalars
from kernels_pallas.step_8bit.rule import Blocks, Leaf

__all__ = [
  "IMPLEMENTATIONS",
  "OP",
  "RULE",
  "Blocks",
  "Leaf",
  "Scalars",
  "adam_8bit_update",
]
