"""Root mean square normalization: Zhang, Sennrich 2019, arXiv:1910.07467."""

from kernels_pallas.rms_norm.api import IMPLEMENTATIONS, rms_norm

__all__ = ["IMPLEMENTATIONS", "rms_norm"]
