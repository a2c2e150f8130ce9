"""Looks inside a run's model, or released weights: streams, sinks, spectra."""

from pathlib import Path

from absl import flags

from normjax import escape
from normjax.commands import arguments

USAGE = (
  "probe RUN_OR_FOLDER [--data='NAME(option=value, …)'] [--num_examples=N]"
  " [--out=DIR] [--overwrite]"
)
RESUMES = False


def define_flags(values: flags.FlagValues) -> None:
  """The command's flags."""
  flags.DEFINE_string(
    "data",
    None,
    "Another data set than the run's: name or name(option=value, …). Released"
    " weights need one; their tokenizer reads text.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "split",
    None,
    "Of the data set. Default: what the run evaluates on; else validation.",
    flag_values=values,
  )
  flags.DEFINE_integer(
    "num_examples",
    8,
    "So many are in memory at once, with the streams of all depths.",
    lower_bound=1,
    flag_values=values,
  )
  flags.DEFINE_integer(
    "step",
    None,
    "Of the run's checkpoint; the newest by default.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "architecture",
    None,
    "Of weights without a config.json.",
    flag_values=values,
  )
  arguments.define_out(
    values, "Gets probe.json and figures. Default: RUN/probe."
  )
  arguments.define_overwrite(
    values, "what --out has of another run, step or data."
  )


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Probes one model, and prints what it found."""
  del overrides
  given = arguments.one(positional, "run directory, or weights", USAGE)
  where = arguments.folder("RUN_OR_FOLDER", given)
  out = arguments.out_folder(values)
  from normjax.report import probe_table
  from normjax.runs import probing

  asked = {
    name: values[name].value
    for name in ("data", "split", "step", "architecture")
  }
  found = probing.subject(where, **asked)
  value = probing.probe_subject(
    found,
    values["num_examples"].value,
    out,
    overwrite=values["overwrite"].value,
  )
  for line in probe_table.lines(value):
    print(escape.lines(line))
  print(escape.lines(f"wrote {Path(out or found.out) / 'probe.json'}"))
  return 0
