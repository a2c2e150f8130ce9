"""Where a process stands among those of its run."""

import dataclasses
import os
from collections.abc import Sequence

from normjax import errors


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a process stands among those of its run.

  Attributes:
    coordinator: HOST:PORT of process 0, where the processes meet.
    num_processes: of the run.
    process_id: of this one, from 0.
    local_device_ids: which of its machine's devices it takes; None: all that
      it sees.
  """

  coordinator: str
  num_processes: int
  process_id: int
  local_device_ids: tuple[int, ...] | None = None

  def __post_init__(self):
    """Raises UserError where that cannot be."""
    if self.num_processes < 1:
      raise errors.UserError(
        f"--num_processes={self.num_processes}; allowed: 1 or more."
      )
    if not 0 <= self.process_id < self.num_processes:
      raise errors.UserError(
        f"--process_id={self.process_id}; allowed: 0 to"
        f" {self.num_processes - 1}, as --num_processes={self.num_processes}."
      )
    host, _, port = self.coordinator.rpartition(":")
    # Python takes digits of any script for some.
    is_number = port.isascii() and port.isdigit()
    if not host or not is_number or not 0 < int(port) < 1 << 16:
      raise errors.UserError(
        f"--coordinator={self.coordinator}; needed: HOST:PORT of process 0, as"
        " in node-1:29500."
      )

  @property
  def address(self) -> tuple[str, int]:
    """Host and port."""
    host, _, port = self.coordinator.rpartition(":")
    return host.strip("[]"), int(port)


def find(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  timeout_s: float = 300,
) -> Place:
  """Where this process stands: as it is told, else as its cluster says.

  Args:
    coordinator: HOST:PORT of process 0. None, like the others: what JAX finds
      in the variables of SLURM, Open MPI or a TPU.
    num_processes: of the run.
    process_id: of this one.
    timeout_s: how long a cluster may take to answer.

  Raises:
    UserError: some are given and some not, or there is no such cluster.
  """
  given = {
    "--coordinator": coordinator,
    "--num_processes": num_processes,
    "--process_id": process_id,
  }
  missing = [name for name, value in given.items() if value is None]
  if len(missing) == len(given):
    return _in_cluster(timeout_s)
  if coordinator is None or num_processes is None or process_id is None:
    raise errors.UserError(
      f"{' and '.join(missing)} missing: give --coordinator, --num_processes"
      " and --process_id together, or none of them where SLURM, Open MPI or a"
      " TPU says it."
    )
  return Place(coordinator, num_processes, process_id)


def _in_cluster(timeout_s: float) -> Place:
  # What jax.distributed.initialize() asks, before it may end this process.
  from jax._src import clusters

  try:
    found = clusters.ClusterEnv.auto_detect_unset_distributed_params(
      None, None, None, None, None, int(timeout_s)
    )
  except (KeyError, ValueError, OSError, RuntimeError) as error:
    raise errors.UserError(
      f"--distributed: the cluster's variables cannot be read:"
      f" {type(error).__name__}: {error}."
    ) from error
  address, num_processes, process_id, devices = found
  if address is None or num_processes is None or process_id is None:
    raise errors.UserError(
      "--distributed: no cluster that JAX knows is here (SLURM's srun, Open"
      " MPI, a TPU). Give --coordinator=HOST:PORT, --num_processes and"
      " --process_id."
    )
  return Place(address, num_processes, process_id, _devices(devices))


def _devices(numbered: Sequence[int] | None) -> tuple[int, ...] | None:
  """Those of a process, from the one that JAX would give it.

  JAX gives the n-th process of a machine the n-th device, and that alone. It is
  not there where each process sees its own only; and where a process has a
  machine to itself, it is to have all.
  """
  visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
  sees_one = bool(visible) and "," not in visible
  per_machine = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[
    0
  ]
  is_told = "JAX_LOCAL_DEVICE_IDS" in os.environ  # JAX reads it.
  if numbered is None or sees_one or per_machine == "1" or is_told:
    return None
  return tuple(numbered)
