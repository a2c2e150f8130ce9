"""Runs a sweep of the toy runner in a process of its own, to be killed."""

import json
import resource
import sys

import rich.console
import toy_runner

from normjax.sweep import api


def main(
  config_path: str, out: str, most_bytes: int = 0, slurm=None, **options
) -> int:
  """Prints the summary and, last, whether jax was imported.

  With `most_bytes` no file of it or of its workers can grow larger; with
  `slurm` its workers are in jobs that ask for that.
  """
  if most_bytes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
  if slurm is not None:
    from normjax.sweep.slurm.options import Options
    from normjax.sweep.slurm.pool import with_options

    options["executor"] = with_options(Options(**slurm))
  summary = api.run_sweep(
    config_path,
    out,
    runner="toy_runner:run",
    program_key=toy_runner.program_key,
    console=rich.console.Console(file=sys.stderr),
    **options,
  )
  print(summary.text())
  print(json.dumps({"jax": "jax" in sys.modules, "ran": summary.num_ran}))
  return summary.exit_code


if __name__ == "__main__":
  sys.exit(main(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3])))
