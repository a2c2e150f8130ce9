"""A worker of a sweep: `python -m normjax.sweep.worker`.

Reads lists of lanes on standard input, runs them one after the other or side
by side in this process, so that points of one program share its compilation,
and answers on standard output; `protocol` says in which lines. Whatever else
the runs print goes to standard error. A worker ends when its sweep does,
whichever way that ends.
"""

import argparse
import ctypes
import importlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from normjax import errors, faults, stopping
from normjax.record.directory import RunDirectory, RunState
from normjax.sweep import protocol
from normjax.sweep.executor import (
  Began,
  Cause,
  Failed,
  Finished,
  Interrupted,
  Lane,
  Ready,
)

PR_SET_PDEATHSIG = 1
BAD_REQUEST = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
  """Serves lanes until standard input ends; returns the exit status."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--slot", type=int, required=True)
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
      return serve(options.slot, _load(options.runner), requests, answers)
  except KeyboardInterrupt:
    return INTERRUPTED


def serve(
  slot: int, runner: Callable[..., Any], requests: TextIO, answers: TextIO
) -> int:
  """Answers requests until their end, a signal, or one that is malformed.

  Args:
    slot: the number that answers bear.
    runner: called as `runner(config, directory)` for each lane.
    requests: see `protocol`, like `answers`.
    answers: flushed after each line.

  Returns:
    The exit status.
  """
  busy = threading.Event()
  lines: queue.SimpleQueue[str] = queue.SimpleQueue()
  threading.Thread(
    target=_read, args=(requests, lines, busy), daemon=True
  ).start()

  def answer(said: protocol.Answer) -> None:
    answers.write(protocol.write_answer(said))
    answers.flush()

  answer(Ready(slot))
  while line := lines.get():
    try:
      left = protocol.read_request(line)
    except protocol.ProtocolError as error:
      busy.clear()
      print(error, file=sys.stderr, flush=True)
      return BAD_REQUEST
    num_left, ended = len(left), False
    for said in run_list(slot, runner, left):
      if not isinstance(said, Began):
        num_left -= 1
        ended = ended or isinstance(said, Interrupted) or stopping.asked()
        if ended or not num_left:
          # Before the answer: once it is out, the input may end any moment.
          busy.clear()
      answer(said)
    if ended:
      return INTERRUPTED
  return 0


def run_list(
  slot: int, runner: Callable[..., Any], lanes: Sequence[Lane]
) -> Iterator[protocol.Answer]:
  """Runs lanes of one program; what is to be told of each, as it happens.

  Args:
    slot: see `serve`, like the runner. One that can train several runs side
      by side has `members(runs, most)`, how many it wants to, and
      `together(runs, most)`, which does it; `runs` are (config, directory).
    runner: see `slot`.
    lanes: all are told of, with `most` alike.
  """
  try:
    most = _members(runner, lanes)
  except KeyboardInterrupt:
    yield from (Interrupted(slot, lane.run_id) for lane in lanes)
    return
  if most > 1:
    for lane in lanes:
      yield Began(slot, lane.run_id)
    yield from _side_by_side(slot, runner, lanes, most)
    return
  ended = False
  for lane in lanes:
    if ended:
      yield Interrupted(slot, lane.run_id)
      continue
    yield Began(slot, lane.run_id)
    outcome = run_lane(slot, runner, lane)
    ended = isinstance(outcome, Interrupted) or stopping.asked()
    yield outcome


def _members(runner: Callable[..., Any], lanes: Sequence[Lane]) -> int:
  """Members of a population that lanes may have; 1: each by itself."""
  if lanes[0].most == 1 or not hasattr(runner, "members"):
    return 1
  try:
    return runner.members(_runs(lanes), lanes[0].most)
  except Exception:
    # Whose fault it is shows where each runs by itself.
    traceback.print_exc()
    return 1


def _side_by_side(
  slot: int, runner: Any, lanes: Sequence[Lane], most: int
) -> Iterator[protocol.Answer]:
  """Runs lanes together; after an error halves of them, to find its lane."""
  if stopping.asked():
    yield from (Interrupted(slot, lane.run_id) for lane in lanes)
    return
  print("---", *(lane.run_id for lane in lanes), file=sys.stderr, flush=True)
  began_s = time.monotonic()
  failure: tuple[str, Cause] | None = None
  try:
    runner.together(_runs(lanes), most)
  except KeyboardInterrupt:
    pass  # Those without a result can go on.
  except BaseException as error:
    traceback.print_exc()
    sys.stderr.flush()
    failure = _explain(error)
  # A member's share: they all took the whole time.
  wall_s = (time.monotonic() - began_s) / len(lanes)
  left = []
  for lane in lanes:
    if RunDirectory(lane.directory, lane.run_id).read_result().value:
      yield Finished(slot, lane.run_id, wall_s)
    else:
      left.append(lane)
  if failure is None:
    yield from (Interrupted(slot, lane.run_id) for lane in left)
  elif len(left) > 1 and failure[1] not in (Cause.MEMORY, Cause.DISK):
    middle = len(left) // 2
    for half in (left[:middle], left[middle:]):
      yield from _side_by_side(slot, runner, half, most)
  else:
    yield from (Failed(slot, lane.run_id, *failure) for lane in left)


def _runs(lanes: Sequence[Lane]) -> list[tuple[Any, Path]]:
  """What a runner is given of lanes."""
  from ml_collections import ConfigDict

  return [(ConfigDict(lane.config), lane.directory) for lane in lanes]


def run_lane(
  slot: int, runner: Callable[..., Any], lane: Lane
) -> Finished | Failed | Interrupted:
  """Runs a lane, and says what became of it."""
  from ml_collections import ConfigDict

  began_s = time.monotonic()
  try:
    print(f"--- {lane.run_id}", file=sys.stderr, flush=True)
    result = runner(ConfigDict(lane.config), lane.directory)
    if result["state"] == RunState.INTERRUPTED:
      return Interrupted(slot, lane.run_id)
  except KeyboardInterrupt:
    return Interrupted(slot, lane.run_id)
  except BaseException as error:
    traceback.print_exc()
    sys.stderr.flush()
    return Failed(slot, lane.run_id, *_explain(error))
  return Finished(slot, lane.run_id, time.monotonic() - began_s)


def _explain(error: BaseException) -> tuple[str, Cause]:
  """Why a run failed, in one line and in one word."""
  message = faults.one_line(error)
  if isinstance(error, errors.CacheError):
    return str(error), Cause.DISK
  if isinstance(error, errors.UserError):
    is_busy = isinstance(error, errors.BusyRunError)
    message = f"{type(error).__name__}: {error}"
    return message, Cause.BUSY if is_busy else Cause.INPUT
  if (fault := faults.disk(error)) is not None:
    return faults.describe(fault), Cause.DISK
  if faults.is_memory(error):
    return f"out of memory: {message}", Cause.MEMORY
  return message, Cause.ERROR


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
