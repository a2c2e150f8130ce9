"""Compiles for accelerators that are not here, and counts what would run.

    compiled = aot.compile(function, x, scale, target="h200")
    compiled.bytes, compiled.kernels, compiled.spilled_bytes

XLA compiles in full: to machine code of an H200, to programs of TPU v5e and
v6e, Pallas kernels included. Nothing runs, so no time is known; bytes are what
kernels read and write, as the compiled program says. It needs the compilers of
the target's platform (`missing` says what to install) and no device.
"""

from kernels_pallas.aot.compiling import Compiled, MissingError, compile
from kernels_pallas.aot.hlo import Kernel
from kernels_pallas.aot.targets import (
  TARGETS,
  Chip,
  abstract,
  described,
  missing,
)

__all__ = [
  "TARGETS",
  "Chip",
  "Compiled",
  "Kernel",
  "MissingError",
  "abstract",
  "compile",
  "described",
  "missing",
]
