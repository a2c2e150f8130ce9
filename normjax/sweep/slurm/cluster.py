"""What is asked of SLURM, by its own commands and by submitit."""

import contextlib
import enum
import importlib.util
import io
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from normjax import beside, errors, stopping
from normjax.sweep.executor import NoRoomError
from normjax.sweep.slurm.options import Options

COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
PATIENCE_S = 60.0
# submitit counts the times that a job was out of time, and takes each signal
# for one where the job has less than ten minutes. The pool's own bound is by
# what the runs have done since.
_NO_BOUND = 1_000_000
_WAITS = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"}
# Ends that are no fault of what ran there.
_TAKEN = {"BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "REVOKED", "TIMEOUT"}
CANCELLED = "CANCELLED"
_GONE = "no longer known to SLURM"
_OVER = _TAKEN | {
  CANCELLED,
  "COMPLETED",
  "DEADLINE",
  "FAILED",
  "LAUNCH_FAILED",
  "OUT_OF_MEMORY",
  "RECONFIG_FAIL",
  _GONE,
}


class Stage(enum.Enum):
  """Where a job is, as far as it matters here."""

  WAITS = "waits"
  RUNS = "runs"
  OVER = "over"


class State(NamedTuple):
  """Of a job: SLURM's word for it, and its reason."""

  word: str
  reason: str

  @property
  def stage(self) -> Stage:
    """What that means here; another word is no end."""
    if self.word in _WAITS:
      return Stage.WAITS
    return Stage.OVER if self.word in _OVER else Stage.RUNS

  @property
  def is_taken(self) -> bool:
    """Whether the cluster ended it for reasons of its own."""
    return self.word in _TAKEN


UNKNOWN = State(_GONE, "")


def check() -> None:
  """Raises UserError where no job could be submitted from here."""
  missing = [name for name in COMMANDS if shutil.which(name) is None]
  if missing:
    raise errors.UserError(
      f"launcher slurm: no {', '.join(missing)} on the PATH; run it where jobs"
      " are submitted, as on a login node, or take --launcher=local."
    )
  if importlib.util.find_spec("submitit") is None:
    raise errors.UserError(
      "launcher slurm: needs the package submitit, which is not installed: pip"
      " install 'normjax[slurm]'."
    )


def check_folder(out: Path) -> None:
  """Raises UserError where SLURM would not find a sweep's folder."""
  if "%" in str(out.absolute()):
    raise errors.UserError(
      f"--out={out}: SLURM gives a % in a path a meaning of its own; take"
      " another folder."
    )


def script(folder: Path, name: str, options: Options) -> str:
  """The script that `submit` hands to sbatch."""
  executor = _executor(folder, name, options)
  command = executor._submitit_command_str
  return executor._make_submission_file_text(command, "")


def submit(job: Any, folder: Path, name: str, options: Options) -> str:
  """Submits a job.

  Args:
    job: what runs there, as submitit takes it.
    folder: for submitit's files; on a disk that all nodes see.
    name: of the job.
    options: see `Options`.

  Returns:
    The job's id.

  Raises:
    NoRoomError: sbatch refuses it; has sbatch's message.
  """
  import submitit

  said = io.StringIO()
  with _own_environment(options), contextlib.redirect_stderr(said):
    try:
      return _executor(folder, name, options).submit(job).job_id
    except (
      submitit.core.utils.FailedJobError,
      submitit.core.utils.FailedSubmissionError,
    ) as error:
      lines = [line.strip() for line in str(error).splitlines()]
      message = " | ".join(filter(None, lines))
      raise NoRoomError(f"sbatch refuses the job: {message}") from error


def states(names: Iterable[str]) -> Mapping[str, State] | None:
  """The jobs of these names that SLURM knows, by id; None where it is silent.

  squeue, not sacct, which asks a data base that many clusters do not have.
  """
  names = ",".join(names)
  if not names:
    return {}
  output = _call(
    "squeue", "--noheader", "--states=all", f"--name={names}",
    "--format=%i|%T|%r",
  )  # fmt: skip
  if output is None:
    return None
  rows = [line.strip().split("|") for line in output.splitlines()]
  return {row[0]: State(row[1], row[2]) for row in rows if len(row) == 3}


def cancel(ids: Iterable[str]) -> None:
  """Cancels jobs; those that are over already do not matter."""
  if ids := list(ids):
    _call("scancel", "--quiet", *ids)


def _call(*command: str) -> str | None:
  """What a command prints; None where it failed, or did not end."""
  try:
    return subprocess.run(
      command,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      stdin=subprocess.DEVNULL,
      timeout=PATIENCE_S,
      check=True,
      text=True,
    ).stdout
  except (OSError, subprocess.SubprocessError):
    return None


def _executor(folder: Path, name: str, options: Options) -> Any:
  """The executor of submitit, which makes the script and submits it."""
  import submitit

  name_of_signal = stopping.CLUSTER.name.removeprefix("SIG")
  # A signal that comes before Python can hear it must not end the job; with -P
  # nothing comes before the path that `setup` gives.
  python = f"trap '' {name_of_signal}; exec {shlex.quote(sys.executable)} -P"
  executor = submitit.SlurmExecutor(
    folder=folder,
    max_num_timeout=_NO_BOUND,
    python=f"bash -c {shlex.quote(python + ' "$@"')} normjax",
  )
  environment = beside.environment()
  environment["SUBMITIT_PREEMPT_SIGNAL"] = name_of_signal
  parameters = dict(options.parameters())
  delay_s = parameters.pop("signal_delay_s")
  # Since SLURM 22.05 srun does not take the cores that sbatch was asked for.
  cores = options.cpus_per_task
  executor.update_parameters(
    **parameters,
    job_name=name,
    wckey=None,  # Some clusters refuse one that they do not know.
    setup=[
      f"export {key}={shlex.quote(value)}" for key, value in environment.items()
    ],
    srun_args=[f"--cpus-per-task={cores}"] if cores else [],
    additional_parameters={
      "requeue": True,
      "signal": f"{name_of_signal}@{delay_s}",
    },
  )
  return executor


@contextlib.contextmanager
def _own_environment(options: Options) -> Iterator[None]:
  """Takes away variables that would overrule the script.

  sbatch reads defaults from `SBATCH_PARTITION` and others, which is welcome
  for what was not asked for, but it lets them win over what was. Inside of a
  job, SLURM's own variables describe that job, not the new one.
  """
  others = {
    "time": "TIMELIMIT",
    "mem": "MEM_PER_NODE",
    "job_name": "JOB_NAME",
    "no_requeue": "NO_REQUEUE",
    "signal": "SIGNAL",
  }
  given = {*options.parameters(), "job_name", "no_requeue", "signal"}
  hidden = {f"SBATCH_{others.get(key, key.upper())}" for key in given}
  if "SLURM_JOB_ID" in os.environ:
    prefixes = ("SLURM_", "SLURMD_", "SRUN_")
    hidden |= {k for k in os.environ if k.startswith(prefixes)}
    hidden -= {"SLURM_CONF"}
  taken = {k: os.environ.pop(k) for k in hidden if k in os.environ}
  try:
    yield
  finally:
    os.environ.update(taken)
