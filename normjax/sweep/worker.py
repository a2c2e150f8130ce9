"""A worker of a sweep: `python -m normjax.sweep.worker`.

Reads points as JSON lines on standard input, `{"config": …, "directory":
…}`, runs one after the other in this process, so that points of one program
share its compilation, and answers in JSON lines on standard output:

    {"event": "ready"}
    {"event": "finished", "directory": …}
    {"event": "failed", "directory": …, "message": …, "retry": bool,
     "kind": "disk" | "memory" | ""}
    {"event": "interrupted", "directory": …}

Whatever else the run prints goes to standard error. A worker ends when its
sweep does, whichever way that ends.
"""

import argparse
import ctypes
import importlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from normjax import errors, faults, stopping
from normjax.record.directory import RunState

PR_SET_PDEATHSIG = 1
INTERRUPTED = 130
DISK = "disk"
MEMORY = "memory"


def main(argv: Sequence[str] | None = None) -> int:
  """Serves points until standard input ends; returns the exit status."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--runner", required=True)
  parser.add_argument("--parent", type=int, required=True)
  parser.add_argument("--cores", default="")
  parser.add_argument("--lock", type=int, default=-1)
  options = parser.parse_args(argv)
  _end_with(options.parent)
  if options.cores:
    # Before jax is imported: XLA sizes its thread pools by the affinity.
    os.sched_setaffinity(0, map(int, options.cores.split(",")))
  if options.lock >= 0:
    os.set_inheritable(options.lock, False)
  requests, answers = _private_streams()
  signal.signal(stopping.SWEEP, _interrupt)
  try:
    with stopping.handled(_interrupt):
      return _serve(_load(options.runner), requests, answers)
  except KeyboardInterrupt:
    return INTERRUPTED


def _serve(
  runner: Callable[..., Any], requests: TextIO, answers: TextIO
) -> int:
  busy = threading.Event()
  lines: queue.SimpleQueue[str] = queue.SimpleQueue()
  threading.Thread(
    target=_read, args=(requests, lines, busy), daemon=True
  ).start()

  def answer(event: str, **facts: Any) -> None:
    answers.write(json.dumps({"event": event, **facts}) + "\n")
    answers.flush()

  answer("ready")
  while line := lines.get():
    request = json.loads(line)
    directory = request["directory"]
    outcome: dict[str, Any] = {"event": "finished"}
    try:
      _run(runner, request)
    except KeyboardInterrupt:
      answer("interrupted", directory=directory)
      return INTERRUPTED
    except BaseException as error:
      traceback.print_exc()
      sys.stderr.flush()
      outcome = _failure(error)
    # Before the answer: once it is out, the input may end at any moment.
    busy.clear()
    answer(directory=directory, **outcome)
    if stopping.asked():
      return INTERRUPTED
  return 0


def _failure(error: BaseException) -> dict[str, Any]:
  """The answer about a run that failed."""
  message, kind, retry = faults.one_line(error), "", True
  if isinstance(error, errors.CacheError):
    message, kind = str(error), DISK
  elif isinstance(error, errors.UserError):
    message = f"{type(error).__name__}: {error}"
    # Bad input stays bad.
    retry = isinstance(error, errors.BusyRunError)
  elif (fault := faults.disk(error)) is not None:
    message, kind = faults.describe(fault), DISK
  elif faults.is_memory(error):
    message, kind = f"out of memory: {message}", MEMORY
  return {"event": "failed", "message": message, "retry": retry, "kind": kind}


def _run(runner: Callable[..., Any], request: dict[str, Any]) -> None:
  from ml_collections import ConfigDict

  directory = Path(request["directory"])
  print(f"--- {directory.name}", file=sys.stderr, flush=True)
  result = runner(ConfigDict(request["config"]), directory)
  if result["state"] == RunState.INTERRUPTED:
    raise KeyboardInterrupt


def _read(
  requests: TextIO, lines: "queue.SimpleQueue[str]", busy: threading.Event
) -> None:
  """Feeds the queue; its end means that nobody waits for an answer."""
  for line in requests:
    busy.set()
    lines.put(line)
  if busy.is_set():
    os._exit(1)
  lines.put("")


def _private_streams() -> tuple[TextIO, TextIO]:
  """Keeps the protocol's pipes to itself.

  File descriptor 0 becomes empty and 1 becomes standard error, so that
  neither Python's, nor C++'s, nor a child's reads and prints mix with it.
  """
  requests = os.fdopen(os.dup(0), "r")
  answers = os.fdopen(os.dup(1), "w")
  nothing = os.open(os.devnull, os.O_RDONLY)
  os.dup2(nothing, 0)
  os.close(nothing)
  os.dup2(2, 1)
  return requests, answers


def _end_with(parent: int) -> None:
  """Asks the kernel to kill this process when its parent dies.

  Standard input ends then too; this also covers a process that is deep in a
  compilation. Linux only; elsewhere the end of the input must do.
  """
  if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != parent:
    os._exit(1)


def _interrupt(number: int, frame: Any) -> None:
  # Once: a second signal must not cut the first one's clean-up short.
  for each in (*stopping.SIGNALS, stopping.SWEEP):
    signal.signal(each, signal.SIG_IGN)
  stopping.ask()


def _load(runner: str) -> Callable[..., Any]:
  module, _, name = runner.partition(":")
  return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
  sys.exit(main())
