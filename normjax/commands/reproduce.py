"""Runs a published table again, and says what of it was reproduced.

Each part of the table is a sweep: it is planned, tuned and run as `normjax
sweep` does it, or computed piece by piece. The same command resumes both. Then
the table: the paper's numbers beside the measured ones, and a verdict on each
statement that the table's file made beforehand.
"""

from typing import Any

from absl import flags

from normjax import errors, papers
from normjax.commands import arguments, launchers

USAGE = (
  "reproduce --list | NAME [--scale=proxy|small|paper] [--rows=REGEX]"
  " [--seeds=1,2] [--out=DIR] [--launcher=slurm] [--dry_run [--nocompile]]"
  " [--save]"
  " [--config.key=value …]"
)
RESUMES = True  # The same command goes on.
NAMES_FROM = "papers"  # Of `configs`; what a shell completes.


def define_flags(values: flags.FlagValues) -> None:
  """The command's flags."""
  flags.DEFINE_bool(
    "list",
    False,
    "List all tables, with what has become of each.",
    flag_values=values,
  )
  flags.DEFINE_enum(
    "scale",
    None,
    papers.SCALES,
    "How large: proxy runs on two CPU cores, small on one accelerator, paper as"
    " the paper has it. Default: the first that the table has.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "rows",
    None,
    "Run only the cells whose row or column this regular expression matches;"
    " the rest can be run later.",
    flag_values=values,
  )
  flags.DEFINE_bool(
    "save",
    False,
    "Write the results to experiments/<paper>/results, once all of the table is"
    " there.",
    flag_values=values,
  )
  arguments.define_out(
    values, "The table's folder. Default: runs/<name>_<scale>."
  )
  arguments.define_running(values)
  launchers.define_flags(values)


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Runs what is not done yet, then tells; 1 where runs failed."""
  if values["list"].value:
    return _list(positional, overrides)
  name = arguments.one(positional, "table", USAGE)
  dry = values["dry_run"].value
  if not (dry or values["compile"].value):
    raise errors.UserError("--nocompile is for --dry_run: a sweep compiles.")
  if dry and values["save"].value:
    raise errors.UserError("--save is not for --dry_run: there are no results.")
  from normjax.reproduce import dry_run, planned, running, saving, source

  place = launchers.executor(values)
  found = source.find(name)
  scale = found.scale(values["scale"].value)
  plan = planned.Planned(
    name,
    scale=scale,
    rows=values["rows"].value,
    seeds=arguments.seeds(values),
    out=arguments.out_folder(values),
    overrides=_typed(found, scale, overrides),
    workers=values["workers"].value,
    workers_per_gpu=values["workers_per_gpu"].value,
    retries=values["retries"].value,
    accept_code_change=values["accept_code_change"].value,
    executor=place,
  )
  if dry:
    dry_run.show(plan, compiles=values["compile"].value)
    launchers.show(place, plan.out)
    return 0
  if values["save"].value:
    saving.check(plan)
  outcome = running.run(plan)
  if values["save"].value:
    saving.save(plan, outcome)
  return outcome.exit_code


def _typed(found: Any, scale: str, overrides: list[str]) -> dict[str, Any]:
  """The overrides, typed by the config of the table's first sweep."""
  parts = [p for p in found.table(scale).parts if p != papers.MEASURE]
  if not overrides or not parts:
    return dict.fromkeys(overrides)
  return arguments.load_config(found.config(scale, parts[0]), overrides)[1]


def _list(positional: list[str], overrides: list[str]) -> int:
  if positional or overrides:
    raise errors.UserError(
      f"{(positional + overrides)[0]}: --list shows all tables: usage: normjax"
      f" {USAGE}"
    )
  from normjax.reproduce import listing

  text, problems = listing.told()
  print(text)
  if problems:
    raise errors.ConfigError(problems[0] + (
      f" ({errors.and_more(len(problems) - 1, 'file')})"
      if len(problems) > 1
      else ""
    ))  # fmt: skip
  return 0
