"""Self-rescaled dynamic normalization: arXiv:2510.22777."""

from kernels_pallas.seednorm.api import IMPLEMENTATIONS, OP, seednorm

__all__ = ["IMPLEMENTATIONS", "OP", "seednorm"]
