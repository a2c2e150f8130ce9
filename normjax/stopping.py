"""Signals that ask a process to end: in order at first, then at once.

A signal raises KeyboardInterrupt, unless a `deferred` block runs: there the
first one is only noted, and the block, which looks at `asked()`, ends when
all is saved. A second one raises in any case.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

# Ctrl-C, a scheduler's wish, a terminal that closes.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A sweep's word to its workers, which may have been told to ignore the others.
SWEEP = signal.SIGUSR1
# A cluster's word to a job whose time is nearly up, or that must make room. The
# job's own process hears it, and passes it on as SWEEP (`sweep/slurm/job.py`).
CLUSTER = signal.SIGUSR2

_asked = False
_is_deferred = False
# Of the processes of one run: whether all stop here, from whether this one was
# asked to.
_agree: Callable[[bool], bool] = bool


@contextlib.contextmanager
def handled(
  handler: Callable[[int, Any], Any], numbers: tuple[int, ...] = SIGNALS
) -> Iterator[None]:
  """Sets a handler for signals, and puts back what was there.

  A signal that is ignored stays ignored: that is how `nohup` and `trap ''`
  protect what they start. Only the main thread may set handlers; elsewhere
  this does nothing.
  """
  before = {}
  if threading.current_thread() is threading.main_thread():
    before = {
      number: signal.signal(number, handler)
      for number in numbers
      if signal.getsignal(number) != signal.SIG_IGN
    }
  try:
    yield
  finally:
    for number, earlier in before.items():
      signal.signal(number, earlier)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
  """Handles the signals as this module says; what was asked ends with it."""
  global _asked
  _asked = False
  try:
    with handled(lambda number, frame: ask()):
      yield
  finally:
    _asked = False


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """A block that looks at `asked()` often, and then ends by itself."""
  global _is_deferred
  _is_deferred = True
  try:
    yield
  finally:
    _is_deferred = False


@contextlib.contextmanager
def noted() -> Iterator[Callable[[], bool]]:
  """Turns the signals into a flag, which the block reads.

  A second signal raises KeyboardInterrupt. Outside of the main thread the flag
  stays down.
  """
  received: list[int] = []

  def note(number: int, frame: Any) -> None:
    received.append(number)
    if len(received) > 1:
      raise KeyboardInterrupt

  with handled(note):
    yield lambda: bool(received)


def ask() -> None:
  """What a handler calls.

  Raises:
    KeyboardInterrupt: but for the first time, in a deferred block.
  """
  global _asked
  again, _asked = _asked, True
  if again or not _is_deferred:
    raise KeyboardInterrupt


@contextlib.contextmanager
def agreed_by(agree: Callable[[bool], bool]) -> Iterator[None]:
  """A block in which several processes answer `asked()` alike.

  Args:
    agree: whether all stop, from whether this process was asked to; they call
      it at the same places.
  """
  global _agree
  _agree = agree
  try:
    yield
  finally:
    _agree = bool


def asked() -> bool:
  """Whether a signal has asked for the end."""
  return _agree(_asked)
