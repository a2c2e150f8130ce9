"""Trains one config; the same command resumes it."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import flags

import normjax
from normjax import configure, errors, escape
from normjax.commands import arguments
from normjax.record import clock, sources
from normjax.record.directory import RunDirectory
from normjax.record.durations import seconds

USAGE = (
  "train CONFIG [--out=DIR] [--distributed] [--profile=FIRST:STOP]"
  " [--config.key=value …]"
)
RESUMES = True  # The same command goes on.
_LIVE_EVERY_S = 0.5
_LINE_EVERY_S = 10.0
_ERASE = "\r\x1b[K"


class Progress:
  """Lines with step, loss and ETA; on a terminal one line that changes."""

  def __init__(self, directory: RunDirectory):
    """Reads what the run tells in its directory."""
    self._directory = directory
    self._is_live = sys.stdout.isatty()
    self._every_s = _LIVE_EVERY_S if self._is_live else _LINE_EVERY_S
    self._said_s = time.monotonic()

  def __call__(self, name: str, step: int) -> None:
    """Is called before a step, its row, an evaluation or a checkpoint."""
    now_s = time.monotonic()
    if name != "log" or now_s - self._said_s < self._every_s:
      return
    self._said_s = now_s
    if (status := self._directory.read_status().value) is not None:
      print(
        f"{_ERASE if self._is_live else ''}{_told(status)}",
        end="" if self._is_live else "\n",
        flush=True,
      )

  def end(self) -> None:
    """Removes the line that changes."""
    if self._is_live:
      print(_ERASE, end="", flush=True)


def _told(status: Mapping[str, Any]) -> str:
  """What status.json says, in words."""
  said = f"step {status.get('step')} of {status.get('num_steps')}"
  if status.get("loss") is not None:
    said += f", loss {status['loss']:.4g}"
  if status.get("eta_s") is not None:
    said += f", ETA {seconds(status['eta_s'])}"
  return said


def define_flags(values: flags.FlagValues) -> None:
  """The command's flags."""
  arguments.define_out(
    values, "Holds one folder per run. Default: runs/<config>."
  )
  arguments.define_accept_code_change(values)
  flags.DEFINE_string(
    "profile",
    None,
    "FIRST:STOP, as in 10:15: traces steps 10 to 14 into the run's folder, for"
    " TensorBoard or XProf.",
    flag_values=values,
  )
  flags.DEFINE_bool(
    "distributed",
    False,
    "Train on the devices of several processes: this command in each, on one"
    " machine or many. Under SLURM's srun, Open MPI or on a TPU that is all;"
    " elsewhere the next three say where.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "coordinator",
    None,
    "Of --distributed: HOST:PORT of process 0, where the processes meet.",
    flag_values=values,
  )
  flags.DEFINE_integer(
    "num_processes", None, "Of --distributed: how many.", flag_values=values
  )
  flags.DEFINE_integer(
    "process_id",
    None,
    "Of --distributed: which this one is, from 0.",
    flag_values=values,
  )
  flags.DEFINE_float(
    "start_timeout_s",
    300.0,
    "Of --distributed: how long the processes wait for each other.",
    lower_bound=0.0,
    flag_values=values,
  )


_PLACE = ("coordinator", "num_processes", "process_id")
_MOST_TIMEOUT_S = 1e6


def _check_processes(values: flags.FlagValues) -> None:
  """Raises UserError where flags of several processes stand alone."""
  timeout_s = values["start_timeout_s"].value
  if not 0 <= timeout_s <= _MOST_TIMEOUT_S:  # No flag's bound holds for NaN.
    raise errors.UserError(
      f"--start_timeout_s={timeout_s:g}; allowed: 0 to {_MOST_TIMEOUT_S:g}."
    )
  given = [name for name in _PLACE if values[name].value is not None]
  if given and not values["distributed"].value:
    raise errors.UserError(
      f"--{given[0]} is of a run in several processes; add --distributed."
    )


@contextlib.contextmanager
def _joined(values: flags.FlagValues, run_id: str) -> Iterator[bool]:
  """A block among the processes of the run; whether this one tells of it."""
  if not values["distributed"].value:
    yield True
    return
  from normjax.train.processes import distributed, place

  timeout_s = values["start_timeout_s"].value
  given = (values[name].value for name in _PLACE)
  where = place.find(*given, timeout_s=timeout_s)
  facts = {"config (its run id)": run_id, "version": normjax.__version__}
  with distributed.joined(where, facts, timeout_s) as group:
    yield group.process_id == 0


def _speed(result: Mapping[str, Any]) -> str:
  """How fast a run was, and the memory that it took; "" of earlier versions."""
  from normjax.report.tables import show_bytes  # Late: it imports SciPy.

  rate = next(
    (
      f"{result[name]:,.0f} {what} per second"
      for name, what in (
        ("tokens_per_s", "tokens"),
        ("examples_per_s", "examples"),
      )
      if result.get(name)
    ),
    None,
  )
  step_ms = result.get("step_ms_median")
  most = result.get("peak_device_bytes")
  resident = result.get("peak_rss_bytes")
  parts = (
    rate,
    f"{step_ms:.3g} ms per step" if step_ms else None,
    f"MFU {result['mfu']:.1%}" if result.get("mfu") else None,
    f"at most {show_bytes(most)} per device" if most else None,
    f"at most {show_bytes(resident)} in the process" if resident else None,
  )
  return ", ".join(part for part in parts if part is not None)


def _check_code(files: RunDirectory, config: configure.ConfigDict) -> None:
  """Raises RunError where the run began with other code of the user's own."""
  now = sources.digests(sources.components(config))
  if changed := sources.changed_since(files, now):
    raise errors.RunError(
      f"{files.path}: the code of {', '.join(map(repr, changed))} has changed"
      " since this run began. Give another --out, or --accept_code_change to"
      " keep what there is and go on."
    )


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Runs, then prints the result's metrics and where they are."""
  path = arguments.one(positional, "config file", USAGE)
  config, _ = arguments.load_config(path, overrides)
  run_id = configure.run_id(config)
  directory = arguments.out_directory(values, path) / run_id
  _check_processes(values)
  with _joined(values, run_id) as tells:
    return _train(config, directory, values, tells=tells)


def _train(
  config: configure.ConfigDict,
  directory: Path,
  values: flags.FlagValues,
  *,
  tells: bool,
) -> int:
  from normjax import train  # Late: imports jax.
  from normjax.train import check, preview
  from normjax.train.processes import distributed
  from normjax.train.throughput import profile

  files = RunDirectory(directory, configure.run_id(config))

  def look() -> tuple[profile.Window | None, bool]:
    window = None
    if (asked := values["profile"].value) is not None:
      check.check(config)
      window = profile.parse(asked, config.train.num_steps)
    if not values["accept_code_change"].value:
      _check_code(files, config)
    over = files.read().state.over
    probes = config.get("log", {}).get("probes", ())
    if (probes or config.get("evaluate", {}).get("metrics")) and not over:
      check.check(config)
    if (probes or preview.reads_activations(config)) and not over:
      preview.check_probes(preview.preview(config).unmatched(probes))
    return window, over

  window, over = distributed.together(look)
  if not tells:
    train.run(config, directory, window=window)
    return 0
  progress = Progress(files)
  try:
    result = train.run(config, directory, progress, window)
  finally:
    progress.end()
  where = escape.lines(str(directory))
  print(f"{result['state']} after {result['steps']} steps in {where}")
  if window is not None:
    traces = escape.lines(str(directory / profile.FOLDER))
    was_over = "nothing is traced, the run was over before"
    print(f"  {window.told}: {was_over if over else f'see {traces}'}")
  if share := clock.waited_share(result):
    print(f"  the devices waited for data {share:.0%} of the training time")
  if said := _speed(result):
    print(f"  {said}")
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
