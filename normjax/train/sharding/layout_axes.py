"""The axes of a program's mesh, as a config asks for them."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from normjax import configure, errors

NAMES = ("data", "fsdp", "tensor")
# Those that split a batch; `fsdp` splits parameters besides.
OF_BATCH = ("data", "fsdp")


class Asked(NamedTuple):
  """What a config says of its devices.

  Attributes:
    num_devices: of the program; 0: all there are.
    data: devices along that axis; 0: what the other two leave.
    fsdp: likewise, at least 1.
    tensor: likewise.
  """

  num_devices: int = 0
  data: int = 0
  fsdp: int = 1
  tensor: int = 1

  @property
  def least(self) -> int:
    """Devices without which there is no such mesh."""
    return math.prod((max(self.data, 1), self.fsdp, self.tensor))

  def elsewhere(self, available: int) -> int:
    """How many a machine may have that is not this one.

    Args:
      available: devices of this one, which will do if they come out even.
    """
    if self.num_devices or available % self.least:
      return self.num_devices or self.least
    return available

  def sizes(self, available: int) -> dict[str, int]:
    """Devices per axis of the mesh; an axis of one device is left out.

    Args:
      available: devices that there are.

    Raises:
      UserError: more are asked for than there are, or they don't come out even.
    """
    if not 0 <= self.num_devices <= available:
      raise errors.UserError(
        f"train.num_devices={self.num_devices}; allowed: 0 (all) to"
        f" {available}, the devices that jax sees here."
      )
    data, total = self.data, self.num_devices or available
    if not data:
      data = max(total // (self.fsdp * self.tensor), 1)
    sizes = {"data": data, "fsdp": self.fsdp, "tensor": self.tensor}
    product = math.prod(sizes.values())
    if self.data and not self.num_devices and product <= total:
      total = product  # Every axis is said; some devices may stay idle.
    if product != total:
      said = " x ".join(
        f"train.layout.{name}={size}"
        for name, size in self._asdict().items()
        if name in NAMES and size > (name != "data")
      )
      number = f"{self.least}" if self.data else f"a multiple of {self.least}"
      raise errors.UserError(
        f"{said} needs {number} devices; {total} are in use. Change a size, or"
        " set train.num_devices."
      )
    return {n: s for n, s in sizes.items() if s > 1 or n == "data"}


def asked(config: configure.ConfigDict) -> Asked:
  """What a config says."""
  sizes = (configure.optional(config, f"train.layout.{n}") for n in NAMES)
  return Asked(config.train.num_devices, *sizes)


def of_batch(sizes: Mapping[str, int]) -> tuple[str, ...]:
  """Those axes of a mesh that split a batch."""
  return tuple(name for name in OF_BATCH if name in sizes)
