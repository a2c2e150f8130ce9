"""Which GPUs each worker of this machine sees, told without jax.

A worker sees one GPU, or as many as its program asks for. What the user lets
this process see (`CUDA_VISIBLE_DEVICES`, MIG slices too) is what is shared out.
Accelerators of other kinds are left alone: who uses them says so to their own
driver.
"""

import dataclasses
import math
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from normjax import errors

VISIBLE = "CUDA_VISIBLE_DEVICES"
FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
# Either sets the memory that XLA takes of a GPU; together they are an error.
_FRACTIONS = (FRACTION, "XLA_CLIENT_MEM_FRACTION")
# The rest is for what no allocator counts: contexts, libraries, graphs.
_SHARED_FRACTION = 0.9
_SMI_TIMEOUT_S = 30.0
_DRIVER = Path("/proc/driver/nvidia/gpus")
_DEVICES = Path("/dev")


@dataclasses.dataclass(frozen=True)
class Share:
  """How workers share this machine's GPUs.

  Attributes:
    gpus: as CUDA names them; none where there are no NVIDIA GPUs.
    gpus_per_worker: as a program asks for.
    workers_per_gpu: that have one GPU together, or one group of them.
  """

  gpus: tuple[str, ...] = ()
  gpus_per_worker: int = 1
  workers_per_gpu: int = 1

  @property
  def most_workers(self) -> int | None:
    """So many fit; None where no GPU limits them."""
    if not self.gpus:
      return None
    return self.num_groups * self.workers_per_gpu

  @property
  def num_groups(self) -> int:
    """What one worker sees, so many times."""
    return len(self.gpus) // self.gpus_per_worker

  def check(self, workers: int | None) -> None:
    """Refuses what does not fit.

    Args:
      workers: as many as are asked for; None: as many as fit.

    Raises:
      UserError: more workers, or GPUs of one, than there are.
    """
    if not self.gpus:
      if self.workers_per_gpu > 1:
        raise errors.UserError(
          f"--workers_per_gpu={self.workers_per_gpu}: no NVIDIA GPU is visible"
          " to this process; --workers says how many processes train."
        )
      return
    there = f"{len(self.gpus)} ({errors.few(self.gpus, 4)})"
    size = self.gpus_per_worker
    if size > len(self.gpus):
      raise errors.UserError(
        f"train.num_devices or train.layout asks for {size} GPUs; this process"
        f" sees {there}."
      )
    if size > 1 and any(each.startswith("MIG-") for each in self.gpus):
      raise errors.UserError(
        f"train.num_devices or train.layout asks for {size} GPUs; a process"
        f" can use one MIG slice, and this one sees {there}."
      )
    groups = self.num_groups
    most = groups * self.workers_per_gpu
    if workers is not None and workers > most:
      each = "one GPU" if size == 1 else f"{size} GPUs"
      sharing = math.ceil(workers / groups)
      raise errors.UserError(
        f"--workers={workers}: each has {each}, and this process sees {there}:"
        f" allowed are 1 to {most}, or --workers_per_gpu={sharing} for workers"
        " that share them (JAX_PLATFORMS=cpu trains without)."
      )

  def environment(self, slot: int) -> dict[str, str]:
    """What a worker's environment says of its GPUs.

    Workers that share a GPU share its memory, unless the user has said how
    much each may take.

    Args:
      slot: of the worker, or the group that it has.
    """
    if not self.gpus:
      return {}
    size = self.gpus_per_worker
    first = slot % self.num_groups * size
    said = {VISIBLE: ",".join(self.gpus[first : first + size])}
    if self.workers_per_gpu > 1 and not says_fraction():
      part = math.floor(100 * _SHARED_FRACTION / self.workers_per_gpu) / 100
      said[FRACTION] = f"{part:.2f}"
    return said


def share(
  configs: Iterable[Mapping[str, Any]], workers_per_gpu: int | None
) -> Share:
  """How the workers of a sweep share what is visible here.

  Args:
    configs: of the points, plain.
    workers_per_gpu: as asked for; None: one.
  """
  gpus_per_worker = max(map(num_devices, configs), default=1)
  return Share(tuple(visible_gpus()), gpus_per_worker, workers_per_gpu or 1)


def num_devices(config: Mapping[str, Any]) -> int:
  """How many devices a config asks for; at least 1.

  0 in a config stands for all there are: of those that its worker sees.
  """
  train = config.get("train")
  if not isinstance(train, Mapping):  # Of another runner.
    return 1
  layout = train.get("layout")
  axes = ("data", "fsdp", "tensor")
  sizes = (
    [layout.get(axis) or 1 for axis in axes]
    if isinstance(layout, Mapping)
    else []
  )
  return max(1, train.get("num_devices") or 0, math.prod(sizes))


def visible_gpus() -> list[str]:
  """The NVIDIA GPUs that jax would use in this process, as CUDA names them."""
  platforms = os.environ.get("JAX_PLATFORMS", "")
  if platforms and platforms.split(",")[0] not in ("cuda", "gpu"):
    return []
  if VISIBLE in os.environ and _has_driver():
    return _named(os.environ[VISIBLE])
  return _of_smi() or _of_driver()


def _has_driver() -> bool:
  """Whether there may be GPUs at all: some clusters name them everywhere."""
  return (
    shutil.which("nvidia-smi") is not None
    or _DRIVER.exists()
    or any(_DEVICES.glob("nvidia[0-9]*"))
  )


def _named(text: str) -> list[str]:
  """As CUDA reads its variable: what follows a device that is none is not."""
  names: list[str] = []
  for name in map(str.strip, text.split(",")):
    if not name or name in names or name.startswith("-"):
      break
    if not name.isdigit() and not name.startswith(("GPU-", "MIG-")):
      break
    names.append(name)
  return names


def canonical(names: Sequence[str]) -> list[str]:
  """One name of each GPU, whatever CUDA was told: its UUID, where that is said.

  Places are those of nvidia-smi's list, which CUDA's are where GPUs are alike,
  or with CUDA_DEVICE_ORDER=PCI_BUS_ID.

  Args:
    names: as `visible_gpus` gives them.
  """
  groups = _listed()
  known = [name for group in groups for name in _slices(group)]
  found = []
  for name in names:
    if name.isdigit() and int(name) < len(groups):
      name = _slices(groups[int(name)])[0]  # CUDA takes no other slice.
    elif not name.isdigit():
      longer = [each for each in known if each.startswith(name)]
      name = longer[0] if len(longer) == 1 else name
    found.append(name)
  return found


def says_fraction() -> bool:
  """Whether the user has said how much of a GPU's memory XLA may take."""
  return any(map(os.environ.get, _FRACTIONS))


def _of_smi() -> list[str]:
  """As nvidia-smi lists them: of a GPU that is sliced, its slices."""
  return [name for group in _listed() for name in _slices(group)]


def _listed() -> list[list[str]]:
  """Each GPU with its slices, as nvidia-smi lists them."""
  command = shutil.which("nvidia-smi")
  if command is None:
    return []
  try:
    done = subprocess.run(
      [command, "-L"],
      capture_output=True,
      text=True,
      timeout=_SMI_TIMEOUT_S,
      check=True,
    )
  except (OSError, subprocess.SubprocessError):  # No driver: no GPUs.
    return []
  groups: list[list[str]] = []
  for line in done.stdout.splitlines():
    name = line.rpartition("(UUID: ")[2].rstrip().rstrip(")")
    if name.startswith("GPU-"):
      groups.append([name])
    elif name.startswith("MIG-") and groups:
      groups[-1].append(name)
  return groups


def _slices(group: Sequence[str]) -> Sequence[str]:
  """A GPU's slices, where it has some, else the GPU."""
  return group[1:] or group


def _of_driver() -> list[str]:
  """As the driver counts them, where there is no nvidia-smi, as in images."""
  try:
    count = len(list(_DRIVER.iterdir()))
  except OSError:
    return []
  return list(map(str, range(count)))
