"""The most that devices can compute, as their vendors say.

Products per second of dense operands, a multiplication and an addition being
two operations. NVIDIA's data sheets state twice as much for the tensor cores,
with a sparsity that nothing here has. What is in no public data sheet is not in
the table: there is then no MFU, and never a guess.
"""

from collections.abc import Iterable
from typing import Any

from normjax import configure
from normjax.train import precision

# NVIDIA H100 Tensor Core GPU Architecture, v1.04, table 2 (SXM5, PCIe).
_H100_SXM = {"bfloat16": 989.4e12, "tf32": 494.7e12, "float32": 66.9e12}
_H100_PCIE = {"bfloat16": 756e12, "tf32": 378e12, "float32": 51.2e12}
# NVIDIA A100 Tensor Core GPU data sheet: one line for all of them.
_A100 = {"bfloat16": 312e12, "tf32": 156e12, "float32": 19.5e12}
# NVIDIA L40S data sheet.
_L40S = {"bfloat16": 362.05e12, "tf32": 183e12, "float32": 91.6e12}
# NVIDIA L4 data sheet, which has the tensor cores with sparsity alone.
_L4 = {"bfloat16": 121e12, "tf32": 60e12, "float32": 30.3e12}

# A device as JAX calls it -> what products' operands are rounded to -> FLOP/s.
# A TPU computes float32 by several products of bfloat16 parts; Google states
# bfloat16 alone: "Peak compute per chip (bf16)" of the system architecture
# pages, docs.cloud.google.com/tpu/docs/v4, v5e, v5p, v6e.
PEAKS: dict[str, dict[str, float]] = {
  "NVIDIA H100 80GB HBM3": _H100_SXM,
  "NVIDIA H100 PCIe": _H100_PCIE,
  # NVIDIA H200 Tensor Core GPU data sheet, SXM: the compute of an H100 SXM.
  "NVIDIA H200": _H100_SXM,
  "NVIDIA A100-SXM4-40GB": _A100,
  "NVIDIA A100-SXM4-80GB": _A100,
  "NVIDIA A100-PCIE-40GB": _A100,
  "NVIDIA A100 80GB PCIe": _A100,
  "NVIDIA L40S": _L40S,
  "NVIDIA L4": _L4,
  "TPU v4": {"bfloat16": 275e12},
  "TPU v5 lite": {"bfloat16": 197e12},
  "TPU v5": {"bfloat16": 459e12},
  "TPU v6 lite": {"bfloat16": 918e12},
}


def arithmetic(config: configure.ConfigDict) -> str:
  """What the operands of a model's products are, where they are compiled."""
  if config.train.precision != "float32":
    return config.train.precision
  return precision.meaning(precision.choice(config)).operands


def flops_per_s(devices: Iterable[Any], operands: str) -> float | None:
  """The peak of all devices together; None where one is not known.

  Args:
    devices: of the program; each has a `device_kind`.
    operands: see `arithmetic`.
  """
  found = [PEAKS.get(d.device_kind, {}).get(operands) for d in devices]
  known = [peak for peak in found if peak is not None]
  return sum(known) if known and len(known) == len(found) else None
