"""Square-root Sinkhorn of matrices: arXiv:2502.06742, algorithm 3."""

from kernels_pallas.sinkhorn.api import IMPLEMENTATIONS, OP, sinkhorn

__all__ = ["IMPLEMENTATIONS", "OP", "sinkhorn"]
