"""What the jobs of a sweep ask SLURM for."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from normjax import errors

TIME_FORMATS = (
  "minutes, minutes:seconds, hours:minutes:seconds, days-hours,"
  " days-hours:minutes, days-hours:minutes:seconds"
)
_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?::(\d+))?")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+)")


@dataclasses.dataclass(frozen=True)
class Options:
  """Of one job, by sbatch's own names; None leaves it to the cluster.

  Attributes:
    partition: where it runs.
    time: at most so long, as sbatch writes it; then it is requeued, and its
      runs go on.
    gpus_per_node: a number, or type:number.
    cpus_per_task: cores.
    mem: of the node, with its unit: "16G".
    account: that pays.
    qos: quality of service.
    constraint: features of the nodes.
    signal_delay_s: so long before its time is up the job is told, to write
      its checkpoints.
  """

  partition: str | None = None
  time: str = "1:00:00"
  gpus_per_node: str | None = None
  cpus_per_task: int | None = None
  mem: str | None = None
  account: str | None = None
  qos: str | None = None
  constraint: str | None = None
  signal_delay_s: int = 90

  def __post_init__(self):
    """Checks the times; the rest is for sbatch to judge.

    Raises:
      UserError: a time that is none, or too short for the signal.
    """
    if not 0 < self.signal_delay_s < 60 * self.time_min:
      raise errors.UserError(
        f"slurm.signal_delay_s={self.signal_delay_s}: must be above 0 and below"
        f" the {60 * self.time_min} s of slurm.time={self.time}."
      )

  @property
  def time_min(self) -> int:
    """The time in whole minutes, rounded up as SLURM does.

    Raises:
      UserError: it is none of SLURM's formats, or 0.
    """
    text = str(self.time).strip()
    if text.isdecimal():
      seconds = 60 * int(text)
    elif match := _DAYS.fullmatch(text):
      days, hours, minutes, rest = (int(part or 0) for part in match.groups())
      seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    elif match := _CLOCK.fullmatch(text):
      hours, minutes, rest = (int(part or 0) for part in match.groups())
      seconds = (hours * 60 + minutes) * 60 + rest
    else:
      seconds = 0
    if not seconds:
      raise errors.UserError(
        f"slurm.time={self.time}: needs a time as sbatch has it:"
        f" {TIME_FORMATS}."
      )
    return -(-seconds // 60)

  def parameters(self) -> Mapping[str, Any]:
    """Those that were given, for submitit, under its names of them."""
    given = {k: v for k, v in vars(self).items() if v is not None}
    return given | {"time": self.time_min}
