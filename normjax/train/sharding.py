"""Data parallelism: the batch is split over devices, the state replicated."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from normjax import errors


def mesh(num_devices: int) -> Mesh:
  """A one-axis mesh named "data".

  Args:
    num_devices: how many; 0 takes all there are.

  Raises:
    UserError: more are asked for than there are.
  """
  devices = jax.devices()
  if not 0 <= num_devices <= len(devices):
    raise errors.UserError(
      f"train.num_devices={num_devices}; allowed: 0 (all) to {len(devices)},"
      " the devices that jax sees here."
    )
  return Mesh(np.array(devices[: num_devices or None]), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
  """The leading axis is split over the devices."""
  return NamedSharding(mesh, PartitionSpec("data"))


def check_batch(key: str, size: int, mesh: Mesh) -> None:
  """Every device must get the same number of examples.

  Raises:
    UserError: it does not come out even.
  """
  if size % mesh.size:
    raise errors.UserError(
      f"{key}={size} is not a multiple of the {mesh.size} devices in use;"
      " change it, or set train.num_devices."
    )
