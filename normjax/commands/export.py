"""Writes what a run learned to a safetensors file."""

from pathlib import Path

from absl import flags

from normjax import errors, escape
from normjax.commands import arguments

USAGE = "export DIR FILE.safetensors [--step=N] [--overwrite]"


def define_flags(values: flags.FlagValues) -> None:
  """The command's flags."""
  flags.DEFINE_integer(
    "step",
    None,
    "Of the checkpoint; the newest by default.",
    flag_values=values,
  )
  arguments.define_overwrite(
    values, "a file that has anything else than this run at this step."
  )


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Leaves the run as it is, also one that goes on."""
  del overrides
  if len(positional) != 2:
    raise errors.UserError(
      f"needs a run directory and a file, got {len(positional)}: usage:"
      f" normjax {USAGE}"
    )
  directory = arguments.folder("DIR", positional[0])
  from normjax.runs.run import load_run

  opened = load_run(directory, step=values["step"].value)
  path = opened.save(Path(positional[1]), overwrite=values["overwrite"].value)
  print(escape.lines(f"wrote {path}, step {opened.step} of {opened.run_id}"))
  return 0
