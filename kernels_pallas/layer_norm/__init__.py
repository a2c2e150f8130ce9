"""Layer normalization: Ba, Kiros, Hinton 2016, arXiv:1607.06450."""

from kernels_pallas.layer_norm.api import IMPLEMENTATIONS, layer_norm

__all__ = ["IMPLEMENTATIONS", "layer_norm"]
