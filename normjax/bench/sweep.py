"""What a sweep costs beside its runs, and what it saves against processes.

`overhead` runs points that train nothing, in one worker; `plan`, `replan` and
`report` read what many runs have left (`made_sweeps`); `throughput` trains the
points of a sweep twice, once as a sweep and once as a process per point.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import rich.console

from normjax import errors, report
from normjax.bench import instant, made_sweeps, tables
from normjax.record.directory import ATTEMPTS
from normjax.sweep import api, machine

QUICK_START = "configs/sweeps/quickstart.py"
_COLUMNS = ("quantity", "measured", "bound", "CPU s", "how")
_NOTE = (
  "CPU seconds are of this process. A process per point has no compilation"
  " cache, as jax has none by default; the sweep begins with an empty one."
  " Both have a core each."
)
# As those do who launch a run at a time.
_ONE_POINT = """
import json, os, pathlib, sys
os.sched_setaffinity(0, {int(sys.argv[2])})
from ml_collections import ConfigDict
from normjax import train
train.run(ConfigDict(json.load(sys.stdin)), pathlib.Path(sys.argv[1]))
"""


def run(console: rich.console.Console, options: Mapping[str, Any]) -> None:
  """Measures what is named; all unless told otherwise."""
  names = options["measures"] or list(MEASURES)
  if unknown := [name for name in names if name not in MEASURES]:
    raise errors.UserError(
      f"--measures={','.join(unknown)}: known are {', '.join(MEASURES)}."
    )
  shown = tables.Report(
    console, "sweep", _COLUMNS, _NOTE, options["out"], machine=tables.here()
  )
  with tempfile.TemporaryDirectory() as folder:
    for name in names:
      own = Path(folder) / name
      own.mkdir()
      found = MEASURES[name](own, options)
      shown.add({"name": name, **found}, [_row(found)])
  shown.show()


def _row(found: Mapping[str, Any]) -> tuple[str, ...]:
  unit, cpu_s = found["unit"], found.get("cpu_s")
  return (
    found["quantity"],
    f"{found['value']:.3g} {unit}",
    f"{'>=' if found.get('is_least') else '<='} {found['bound']:g} {unit}",
    "" if cpu_s is None else f"{cpu_s:.2f}",
    found["how"],
  )


def overhead(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
  """From one point's end to the next one's, where points take no time."""
  values = 3 if options["tiny"] else 9
  path = made_sweeps.write_config(folder, 10, 2, values)
  out = folder / "out"
  _, cpu_s, _ = _timed(
    lambda: api.run_sweep(
      path,
      out,
      runner=f"{instant.__name__}:run",
      workers=1,
      console=_quiet(),
    )
  )
  lines = (out / ATTEMPTS).read_text().splitlines()
  ends_s = [json.loads(line)["time_unix_s"] for line in lines]
  return {
    "quantity": "launcher, per point",
    "value": 1e3 * (ends_s[-1] - ends_s[0]) / (len(ends_s) - 1),
    "unit": "ms",
    "bound": 50,
    "how": f"{len(ends_s)} points of one worker, results and all",
    "cpu_s": cpu_s,
  }


def planning(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
  """From the config file to the points, of a sweep that has not begun."""
  path = made_sweeps.write_config(folder, 10, 5, 2 if options["tiny"] else 10)
  from normjax import build  # noqa: F401  Importing jax is no planning.

  wall_s, cpu_s, prepared = _timed(
    lambda: api.Prepared(path, folder / "out", console=_quiet())
  )
  return {
    "quantity": "planning",
    "value": wall_s,
    "unit": "s",
    "bound": 2,
    "how": f"{len(prepared.state.plan.points)} points",
    "cpu_s": cpu_s,
  }


def replanning(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
  """The command again, where nothing is left to run."""
  seeds = 2 if options["tiny"] else 50
  path, out = made_sweeps.write_config(folder, 10, seeds, 9), folder / "out"
  count = made_sweeps.finish(path, out, with_rows=False)
  wall_s, cpu_s, _ = _timed(lambda: api.run_sweep(path, out, console=_quiet()))
  return {
    "quantity": "planning again",
    "value": wall_s,
    "unit": "s",
    "bound": 5,
    "how": f"{count} finished points",
    "cpu_s": cpu_s,
  }


def reporting(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
  """Tables, figures and pages."""
  seeds = 2 if options["tiny"] else 10
  path, out = made_sweeps.write_config(folder, 10, seeds, 9), folder / "out"
  count = made_sweeps.finish(path, out, with_rows=True)
  wall_s, cpu_s, _ = _timed(lambda: report.write_report(out))
  return {
    "quantity": "report",
    "value": wall_s,
    "unit": "s",
    "bound": 20,
    "how": f"{count} runs",
    "cpu_s": cpu_s,
  }


def throughput(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
  """Points per hour of a sweep, over those of a process per point."""
  config = QUICK_START + (":debug" if options["tiny"] else "")
  seeds = range(1, 1 + options["num_seeds"])
  state = api.Prepared(
    config, folder / "plan", seeds=seeds, console=_quiet()
  ).state
  configs = [point.config for point in state.chosen()]
  sweep_s = _sweep_s(folder, config, seeds)
  processes_s = _processes_s(folder / "processes", configs)
  per_hour = [3600 * len(configs) / s for s in (sweep_s, processes_s)]
  return {
    "quantity": "points per hour, of a process per point",
    "value": processes_s / sweep_s,
    "unit": "x",
    "bound": 2.5,
    "is_least": True,
    "how": f"{len(configs)} points of {config}: {per_hour[0]:.0f} and"
    f" {per_hour[1]:.0f} an hour",
    "sweep_s": sweep_s,
    "processes_s": processes_s,
  }


def _sweep_s(folder: Path, config: str, seeds: Sequence[int]) -> float:
  """The command as a user gives it, with its start and its report."""
  started_s = time.perf_counter()
  done = subprocess.run(
    [
      sys.executable, "-P", "-m", "normjax", "sweep", config,
      f"--out={folder / 'out'}", f"--seeds={','.join(map(str, seeds))}",
    ],
    env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")},
    capture_output=True,
    text=True,
    check=False,
  )  # fmt: skip
  if done.returncode:
    raise errors.RunError(f"the sweep failed: {done.stderr[-400:].strip()}")
  return time.perf_counter() - started_s


def _processes_s(folder: Path, configs: Sequence[Mapping[str, Any]]) -> float:
  """As many processes at once as there are cores, each with one point."""
  cores = machine.usable_cores()
  free = list(cores)

  def one(number: int, config: Mapping[str, Any]) -> None:
    core = free.pop()
    try:
      subprocess.run(
        [
          sys.executable,
          "-c",
          _ONE_POINT,
          str(folder / str(number)),
          str(core),
        ],
        input=json.dumps(config),
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
      )
    finally:
      free.append(core)

  started_s = time.perf_counter()
  with futures.ThreadPoolExecutor(len(cores)) as pool:
    list(pool.map(one, range(len(configs)), configs))
  return time.perf_counter() - started_s


def _timed(function: Callable[[], Any]) -> tuple[float, float, Any]:
  """Wall seconds, CPU seconds of this process, and what it returns."""
  wall_s, cpu_s = time.perf_counter(), time.process_time()
  value = function()
  return time.perf_counter() - wall_s, time.process_time() - cpu_s, value


def _quiet() -> rich.console.Console:
  return rich.console.Console(quiet=True)


MEASURES = {
  "overhead": overhead,
  "plan": planning,
  "replan": replanning,
  "report": reporting,
  "throughput": throughput,
}
