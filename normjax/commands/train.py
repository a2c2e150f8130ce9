"""Trains one config; the same command resumes it."""

from absl import flags

from normjax import configure, escape
from normjax.commands import arguments
from normjax.record.directory import RunDirectory

USAGE = "train CONFIG [--out=DIR] [--config.key=value …]"
RESUMES = True  # The same command goes on.


def define_flags(values: flags.FlagValues) -> None:
  """The command's flags."""
  arguments.define_out(
    values, "Holds one folder per run. Default: runs/<config>."
  )


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Runs, then prints the result's metrics and where they are."""
  path = arguments.one(positional, "config file", USAGE)
  config, _ = arguments.load_config(path, overrides)
  run_id = configure.run_id(config)
  directory = arguments.out_directory(values, path) / run_id
  from normjax import train  # Late: imports jax.
  from normjax.train import check, preview

  over = RunDirectory(directory, run_id).read().state.over
  if config.get("log", {}).get("probes") and not over:
    check.check(config)
    preview.check_probes(preview.preview(config).unmatched(config.log.probes))
  result = train.run(config, directory)
  where = escape.lines(str(directory))
  print(f"{result['state']} after {result['steps']} steps in {where}")
  if result.get("diverged_at_step") is not None:
    print(f"  diverged at step {result['diverged_at_step']}")
  # Results of earlier versions do not say.
  if result.get("gradient_zero_since_step") is not None:
    print(
      "  the gradient is exactly 0 from step"
      f" {result['gradient_zero_since_step']} to the end: nothing is learned"
    )
  for name, value in result["metrics"].items():
    print(f"  {name:20} {value:.6g}" if value is not None else f"  {name} -")
  return 0
