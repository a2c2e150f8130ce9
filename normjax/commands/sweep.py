"""Runs a sweep file and writes its report; the same command resumes it."""

from absl import flags

from normjax import errors, escape
from normjax.commands import arguments, launchers

USAGE = (
  "sweep CONFIG [--out=DIR] [--methods=REGEX] [--seeds=1,2]"
  " [--population=auto|off|N]"
  " [--launcher=slurm [--slurm.partition=P --slurm.time=T …]]"
  " [--dry_run [--nocompile]] [--config.key=value …]"
)
RESUMES = True  # The same command goes on.


def define_flags(values: flags.FlagValues) -> None:
  """The command's flags."""
  arguments.define_out(
    values, "The sweep's folder: plan, runs, report. Default: runs/<config>."
  )
  flags.DEFINE_string(
    "methods",
    None,
    "Run only the methods whose label this regular expression matches; the"
    " rest can be run later.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "population",
    None,
    "Whether points of one program train as members of one compiled step:"
    " 'off', 'auto' (timed once per program) or how many at most. Default: the"
    " sweep's own, off unless it says.",
    flag_values=values,
  )
  arguments.define_running(values)
  launchers.define_flags(values)


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Runs what is not done yet, then reports; 1 where points failed."""
  path = arguments.one(positional, "sweep file", USAGE)
  if not (values["dry_run"].value or values["compile"].value):
    raise errors.UserError("--nocompile is for --dry_run: a sweep compiles.")
  _, typed = arguments.load_config(path, overrides)
  from normjax import report, sweep

  out = arguments.out_directory(values, path)
  place = launchers.executor(values)
  summary = sweep.run_sweep(
    path,
    out,
    executor=place,
    overrides=typed,
    workers=values["workers"].value,
    workers_per_gpu=values["workers_per_gpu"].value,
    retries=values["retries"].value,
    dry_run=values["dry_run"].value,
    accept_code_change=values["accept_code_change"].value,
    compiles=values["compile"].value,
    methods=values["methods"].value,
    seeds=arguments.seeds(values),
    population=_population(values["population"].value),
  )
  if values["dry_run"].value:
    launchers.show(place, out)
    return 0
  paths = report.write_and_print(out)
  print(escape.lines(summary.text(with_failures=False)))  # The report has.
  print(escape.lines(f"report: {paths.html}"))
  return summary.exit_code


def _population(text: str | None) -> str | int | None:
  """The flag's value; the sweep checks it."""
  from normjax.sweep import population

  return None if text is None else population.parse(text)
