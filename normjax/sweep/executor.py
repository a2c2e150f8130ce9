"""Where the runs of a sweep happen: what the launcher asks of any place.

An executor is mechanism: it starts slots, carries runs to them, tells what
became of them, and ends them. Which point comes next, what is tried again,
what is written down and when the whole sweep ends is policy, and stays with
the launcher (`launch.py`) whatever the place.

A slot runs one list of lanes at a time, and keeps the programs that it has
compiled until it ends: here a process, elsewhere a job of a cluster.

What an executor tells of a slot comes in this order:

    start(slot) -> Ready
    submit(slot, lanes) -> for each lane Began, then one of Finished, Failed,
      Interrupted, Preempted; after the last two no other lane begins, and the
      slot ends
    Died: the last of a slot, at any time; its lanes get no end of their own

After Died, or after `end`, nothing more is told of a slot until it is started
anew. `Note` is for people, and may come at any time.
"""

import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from normjax.registry import Registry

EXECUTORS = Registry(
  "executor",
  {
    "local": "normjax.sweep.local:LocalPool",
    "slurm": "normjax.sweep.slurm.pool:SlurmPool",
  },
)


@dataclasses.dataclass(frozen=True)
class Lane:
  """One run: its id, its resolved config as plain dicts, its directory.

  Attributes:
    run_id: see above, like the next two.
    config: see `run_id`.
    directory: see `run_id`.
    most: members that its population may have; 1: it trains by itself.
  """

  run_id: str
  config: Mapping[str, Any]
  directory: Path
  most: int = 1


class Cause(enum.StrEnum):
  """Why a run failed, as far as it matters for what comes next."""

  ERROR = "error"
  INPUT = "input"  # Bad input stays bad.
  BUSY = "busy"  # The run's directory is in use.
  DISK = "disk"  # Every other run would meet the same disk.
  MEMORY = "memory"  # What is left of the slot is of no use to another run.


@dataclasses.dataclass(frozen=True)
class Ready:
  """A slot has started, and may be given lanes."""

  slot: int


@dataclasses.dataclass(frozen=True)
class Began:
  """The run of a lane begins."""

  slot: int
  run_id: str


@dataclasses.dataclass(frozen=True)
class Finished:
  """The runner returned after `wall_s`; what it left is on disk."""

  slot: int
  run_id: str
  wall_s: float


@dataclasses.dataclass(frozen=True)
class Failed:
  """The runner raised; `message` is one line."""

  slot: int
  run_id: str
  message: str
  cause: Cause


@dataclasses.dataclass(frozen=True)
class Interrupted:
  """A signal ended the run, or kept it from beginning; it can go on."""

  slot: int
  run_id: str


@dataclasses.dataclass(frozen=True)
class Preempted:
  """The place took the slot back from the run, which is at no fault."""

  slot: int
  run_id: str


@dataclasses.dataclass(frozen=True)
class Died:
  """A slot is gone; `message` says how it ended."""

  slot: int
  message: str


@dataclasses.dataclass(frozen=True)
class Note:
  """Something that people should know."""

  text: str


End = Finished | Failed | Interrupted | Preempted
Event = Ready | Began | End | Died | Note


class NoRoomError(Exception):
  """Another slot cannot be started now; says why, without a full stop."""


class Executor(Protocol):
  """A place where runs happen.

  Attributes:
    same_machine: whether its slots see the devices of this process.
  """

  same_machine: ClassVar[bool]

  def __init__(self, *, out: Path, runner: str, num_slots: int, lock: int):
    """Starts nothing yet.

    Args:
      out: of the sweep.
      runner: "module:function", called as `function(config, directory)`; see
        `worker.run_list`.
      num_slots: at most so many are started; they are numbered from 0.
      lock: descriptor of the launcher's sign of life, whose lock processes of
        this machine inherit; see `record.heartbeat`.
    """
    ...

  @staticmethod
  def default_num_slots() -> int:
    """How many slots there are unless the user says."""
    ...

  def start(self, slot: int) -> None:
    """Starts a slot; `Ready` or `Died` will follow.

    Raises:
      NoRoomError: the place has no room for another.
    """
    ...

  def submit(self, slot: int, lanes: Sequence[Lane]) -> None:
    """Gives a slot that waits lanes of one program, to run together."""
    ...

  def events(self, timeout_s: float) -> Iterable[Event]:
    """What has happened since the last call; waits for it up to a timeout."""
    ...

  def end(self, slot: int) -> None:
    """Ends a slot at once, whatever it is at."""
    ...

  def stop(self, grace_s: float) -> Sequence[Event]:
    """Ends all slots; runs under way may write a last checkpoint before.

    Args:
      grace_s: after so long they are ended at once.

    Returns:
      What has happened since the last call of `events`.
    """
    ...


def resolve(executor: str | type[Executor]) -> type[Executor]:
  """The executor of that name; one is itself.

  Raises:
    UnknownNameError: no such name.
  """
  if not isinstance(executor, str):
    return executor
  factory: Any = EXECUTORS.get(executor)
  return factory
