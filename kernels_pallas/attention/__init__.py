"""Softmax attention: Vaswani et al. 2017, arXiv:1706.03762."""

from kernels_pallas.attention.api import (
  IMPLEMENTATIONS,
  OP,
  attention,
  refusing,
)

__all__ = ["IMPLEMENTATIONS", "OP", "attention", "refusing"]
