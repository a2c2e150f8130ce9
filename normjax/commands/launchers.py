"""The flags that say where the runs of a sweep happen."""

from pathlib import Path
from typing import Any

from absl import flags

from normjax import errors, escape

NAMES = ("local", "slurm")
_HELP = {
  "partition": "Of SLURM: the partition that jobs are submitted to.",
  "time": "Of SLURM: a job's time limit, as sbatch has it. A job that is out of"
  " time is requeued, and its runs go on. Default: 1:00:00.",
  "gpus_per_node": "Of SLURM: GPUs of a job, as 1 or a100:1.",
  "cpus_per_task": "Of SLURM: cores of a job.",
  "mem": "Of SLURM: memory of a job, as 16G.",
  "account": "Of SLURM: the account that pays.",
  "qos": "Of SLURM: the quality of service.",
  "constraint": "Of SLURM: features that the nodes must have.",
  "signal_delay_s": "Of SLURM: seconds before its time is up at which a job"
  " begins to write its checkpoints. Default: 90.",
}
_PREFIX = "slurm."


def define_flags(values: flags.FlagValues) -> None:
  """--launcher, and what each of the launchers may be told."""
  flags.DEFINE_enum(
    "launcher",
    "local",
    NAMES,
    "Where the runs happen: in processes of this machine, or in jobs of a SLURM"
    " cluster, as many at once as --workers says.",
    flag_values=values,
  )
  for name, text in _HELP.items():
    if name in ("cpus_per_task", "signal_delay_s"):
      flags.DEFINE_integer(
        _PREFIX + name, None, text, lower_bound=1, flag_values=values
      )
    else:
      flags.DEFINE_string(_PREFIX + name, None, text, flag_values=values)


def executor(values: flags.FlagValues) -> Any:
  """What `run_sweep` takes as its executor.

  Raises:
    UserError: an option of another launcher, or no such launcher here.
  """
  given = {
    name: values[_PREFIX + name].value
    for name in _HELP
    if values[_PREFIX + name].value is not None
  }
  launcher = values["launcher"].value
  if launcher != "slurm":
    if given:
      raise errors.UserError(
        f"--{_PREFIX}{next(iter(given))} is for --launcher=slurm; the launcher"
        f" is {launcher}."
      )
    return launcher
  from normjax.sweep.slurm import cluster, options, pool

  cluster.check()
  return pool.with_options(options.Options(**given))


def show(place: Any, out: Path) -> None:
  """Prints what a launcher would submit, where it submits anything."""
  if not isinstance(place, str):
    print(escape.lines(f"the script of each job:\n\n{place.script(out)}"))
