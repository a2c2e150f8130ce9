"""What every implementation of an op must do.

On a CPU kernels are interpreted (`tests/kernels_pallas`), on a device they run
as they are (`python -m kernels_pallas.prove`). A check takes a `Case` and
raises AssertionError. The truth is the op's reference in float64, which the
op's own test compares with a transcription in NumPy.
"""

from kernels_pallas.contract.cases import (
  BACK_ENDS,
  Case,
  chosen_by,
  interpreted,
  of,
  on_device,
  reason,
  strict,
)
from kernels_pallas.contract.checks import (
  CHECKS,
  check_donation,
  check_members,
  check_shared,
  check_values,
)
from kernels_pallas.contract.declared import (
  Contract,
  draw,
  row_bounds,
  row_contract,
)
from kernels_pallas.contract.sample import Sample, values

__all__ = [
  "BACK_ENDS",
  "CHECKS",
  "Case",
  "Contract",
  "Sample",
  "check_donation",
  "check_members",
  "check_shared",
  "check_values",
  "chosen_by",
  "draw",
  "interpreted",
  "of",
  "on_device",
  "reason",
  "row_bounds",
  "row_contract",
  "strict",
  "values",
]
