"""Runs the stages, each in a process with a limit, and writes what they find.

Nothing here imports jax: this process must hold no device.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from normjax import errors, faults
from normjax.record import files
from normjax.registry import near_misses

# Stage -> the seconds that it may take, in the order in which they run.
STAGES: Mapping[str, float] = {
  "device": 45,
  "contract": 110,
  "kernels": 80,
  "steps": 210,
  "optimizers": 100,
  "populations": 60,
  "deterministic": 50,
}
BUDGET_S = 480
OUT = "results"
# Stages that are commands of `kernels_pallas`, which keep results of their own.
_COMMANDS = {
  "contract": ("kernels_pallas.prove",),
  "kernels": ("kernels_pallas.bench", "--out={out}"),
}
_LEAST_S = 5
_TAIL_LINES = 12


def run(options: Mapping[str, Any]) -> int:
  """Runs the stages that are asked for; 1 where one did not end well.

  Args:
    options: those that were given of `budget_s`, `stages`, `tiny` and `out`.

  Raises:
    UserError: an unknown stage; a budget for none; a machine without an
      accelerator.
    OSError: the folder of results cannot be made.
  """
  budget_s = options.get("budget_s", BUDGET_S)
  if budget_s < 1:
    raise errors.UserError(f"--budget_s={budget_s}; allowed: 1 or more.")
  tiny = options.get("tiny", False)
  stages = list(options.get("stages") or STAGES)
  for name in stages:
    if name not in STAGES:
      raise errors.UserError(
        f"--stages: no stage {name!r}.{near_misses(name, STAGES)}"
        f" Allowed: {', '.join(STAGES)}."
      )
  # Its rates are what others are measured by, and it names the file.
  stages = ["device", *(name for name in STAGES if name in stages)]
  stages = list(dict.fromkeys(stages))
  end_s = time.monotonic() + budget_s
  out = Path(options.get("out") or OUT)
  faults.make_writable(out)
  results = Results(out, tiny)
  for name in stages:
    left_s = end_s - time.monotonic()
    if left_s < _LEAST_S:
      results.keep(name, {"error": "not begun: the budget is spent"})
      continue
    limit_s = min(STAGES[name], left_s)
    found = _stage(name, limit_s, results.facts, tiny)
    if any(_is_cpu(each) for each in found["results"]) and not tiny:
      raise errors.UserError(
        "jax sees no accelerator here: it would measure a CPU. --tiny tries"
        " the benchmark on one."
      )
    results.keep(name, found)
  print(f"wrote {results.path}")
  return int(any("error" in found for found in results.stages.values()))


def _is_cpu(found: Mapping[str, Any]) -> bool:
  """Whether a result says that the device is a CPU."""
  return found.get("facts", {}).get("platform") == "cpu"


class Results:
  """The file of results of a device.

  Attributes:
    stages: what each has found.
  """

  def __init__(self, folder: Path, tiny: bool):
    """Reads nothing yet: the first stage says which device it is."""
    self._folder, self._tiny = folder, tiny
    self.stages: dict[str, dict[str, Any]] = {}

  @property
  def facts(self) -> dict[str, Any]:
    """What the stage "device" tells the others, by name."""
    found: dict[str, Any] = {}
    for each in self.stages.get("device", {}).get("results", ()):
      found |= each.get("facts", {})
    return found

  @property
  def path(self) -> Path:
    """Of the file, by the device's own name."""
    kind = self.facts.get("device_kind", "unknown")
    name = re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_")
    return self._folder / f"{name}{'_tiny' if self._tiny else ''}.json"

  def keep(self, stage: str, found: dict[str, Any]) -> None:
    """Writes what a stage has found, beside what the file has of others."""
    self.stages[stage] = found
    content = files.read_json(self.path)
    content = content if isinstance(content, dict) else {}
    before = content.get("bench")
    before = before if isinstance(before, dict) else {}
    content["device_kind"] = self.facts.get("device_kind", "unknown")
    content["bench"] = before | files.finite(self.stages)
    files.write_json(self.path, content)
    print(f"{stage}: {found.get('error') or 'done'}", flush=True)


def _stage(
  name: str, limit_s: float, facts: Mapping[str, Any], tiny: bool
) -> dict[str, Any]:
  """What a stage has found within its limit, and how it ended."""
  start_s = time.monotonic()
  with tempfile.TemporaryDirectory() as folder:
    out, log = Path(folder) / "out", Path(folder) / "log"
    given = json.dumps({"facts": facts, "tiny": tiny, "out": str(out)})
    command = [f"{__package__}.worker", name, given]
    if name in _COMMANDS:
      command = [part.format(out=out) for part in _COMMANDS[name]]
      command += ["--tiny"] if tiny and len(command) > 1 else []
    problem = ""
    with log.open("w") as output, _started(command, output) as process:
      try:
        if code := process.wait(limit_s):
          problem = f"ended with code {code}"
      except subprocess.TimeoutExpired:
        problem = f"stopped after {limit_s:.0f} s"
    found: dict[str, Any] = {
      "seconds": round(time.monotonic() - start_s, 1),
      "results": _read(out),
    }
    tail = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
  if problem:
    found |= {"error": problem, "log": [_without_folders(x) for x in tail]}
  return found


@contextlib.contextmanager
def _started(
  command: Sequence[str], output: Any
) -> Iterator[subprocess.Popen[bytes]]:
  """A process that does not outlive the block, nor do its own."""
  process = subprocess.Popen(
    [sys.executable, "-m", *command],
    stdout=output,
    stderr=subprocess.STDOUT,
    start_new_session=True,
    # A stage that asks for all memory leaves none to a peer.
    env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
  )
  try:
    yield process
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(path: Path) -> list[dict[str, Any]]:
  """One file with all results, or a line of each that was whole."""
  text = path.read_text() if path.exists() else ""
  with contextlib.suppress(ValueError, KeyError, TypeError):
    return json.loads(text)["results"]
  found = []
  for line in text.splitlines():
    with contextlib.suppress(ValueError):
      found.append(json.loads(line))
  return found


def _without_folders(text: str) -> str:
  """What is committed names no folder of a machine."""
  return re.sub(r"(/[^/\s'\":]+)+/", "", text)
