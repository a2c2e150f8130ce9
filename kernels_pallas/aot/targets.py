"""The chips that are compiled for, and what has to be installed for that."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
import shutil
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh


@dataclasses.dataclass(frozen=True)
class Chip:
  """An accelerator as a compiler sees it.

  Attributes:
    platform: "gpu" or "tpu".
    device_kind: as JAX calls the device.
    num_cores: streaming multiprocessors, or cores.
    bytes_per_s: of its memory, as the vendor says.
    wheels: distributions that hold the compiler.
  """

  platform: str
  device_kind: str
  num_cores: int
  bytes_per_s: float
  wheels: tuple[str, ...]


_ASSEMBLER = "nvidia-cuda-nvcc"
_CUDA = ("jax-cuda13-plugin", "jax-cuda13-pjrt", _ASSEMBLER)
_TPU = ("libtpu",)
TARGETS = {
  "h200": Chip("gpu", "NVIDIA H200", 132, 4.8e12, _CUDA),
  "v5e": Chip("tpu", "TPU v5 lite", 1, 0.82e12, _TPU),
  "v6e": Chip("tpu", "TPU v6 lite", 1, 1.64e12, _TPU),
}
INSTALL = "pip install 'normjax[aot]'"
# Names of TPU slices by their number of chips.
_SLICES = {1: "2x2", 2: "2x2", 4: "2x2", 8: "2x4"}

_WITHOUT_A_TPU = {
  # Else libtpu asks a server that only a TPU's machine has, and complains.
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v6e-4",
  "TPU_WORKER_HOSTNAMES": "localhost",
  # Several processes may compile at once: none of them uses a device.
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def chip(target: str) -> Chip:
  """The chip of that name.

  Raises:
    ValueError: no such target.
  """
  if target not in TARGETS:
    raise ValueError(
      f"target={target!r} is not known; known: {', '.join(TARGETS)}."
    )
  return TARGETS[target]


def missing(target: str) -> str | None:
  """What has to be installed to compile for the target, or None."""
  absent = [wheel for wheel in chip(target).wheels if not _installed(wheel)]
  if not absent:
    return None
  return f"compiling for {target} needs {' and '.join(absent)}: {INSTALL}"


def _installed(wheel: str) -> bool:
  # NVIDIA's toolkit has it too.
  if wheel == _ASSEMBLER and shutil.which("ptxas"):
    return True
  try:
    importlib.metadata.version(wheel)
  except importlib.metadata.PackageNotFoundError:
    return False
  return True


@functools.cache
def described(target: str, devices: int = 1) -> Sequence[Any]:
  """Devices of the target, for a mesh to compile for; none is there.

  Args:
    target: a name of `TARGETS`.
    devices: how many; 1, 2, 4 or 8 of a TPU.

  Raises:
    ValueError: no such target, or number of devices.
  """
  here = chip(target)
  if here.platform == "gpu":
    text = resources.files(__package__).joinpath(f"{target}.txtpb").read_text()
    topology = topologies.get_topology_desc(
      platform="cuda", target_config=text, topology=f"1x1x{devices}"
    )
    return tuple(topology.devices[:devices])
  if devices not in _SLICES:
    sizes = ", ".join(map(str, _SLICES))
    raise ValueError(f"devices={devices}: a slice of {target} has {sizes}.")
  if jax.default_backend() != "tpu":
    for name, value in _WITHOUT_A_TPU.items():
      os.environ.setdefault(name, value)
  topology = topologies.get_topology_desc(
    platform="tpu", topology_name=f"{target}:{_SLICES[devices]}"
  )
  return tuple(topology.devices[:devices])


def abstract(target: str) -> contextlib.AbstractContextManager[Any]:
  """What is traced in the block is traced for that chip."""
  here = chip(target)
  device = AbstractDevice(
    device_kind=here.device_kind,
    num_cores=here.num_cores,
    platform=here.platform,
  )
  return use_abstract_mesh(AbstractMesh((), (), abstract_device=device))
