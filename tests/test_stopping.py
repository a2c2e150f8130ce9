"""Signals: the first in order, the second at once, the ignored never."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from normjax import stopping


def send(number=signal.SIGTERM):
  os.kill(os.getpid(), number)
  # A handler of Python's runs between two of its instructions.
  for _ in range(1000):
    pass


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_signal_interrupts_what_defers_nothing(number):
  before = signal.getsignal(number)
  with stopping.interruptible():
    assert not stopping.asked()
    with pytest.raises(KeyboardInterrupt):
      send(number)
    assert stopping.asked()
  assert signal.getsignal(number) == before
  assert not stopping.asked()


def test_a_deferred_block_notes_the_first_and_ends_with_the_second():
  with stopping.interruptible(), stopping.deferred():
    send()
    assert stopping.asked()
    with pytest.raises(KeyboardInterrupt):
      send(signal.SIGINT)
  with stopping.interruptible(), pytest.raises(KeyboardInterrupt):
    send()  # The block is over.


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_what_is_ignored_at_the_start_stays_ignored(number):
  before = signal.signal(number, signal.SIG_IGN)
  try:
    with stopping.interruptible():
      send(number)
      assert not stopping.asked()
      assert signal.getsignal(number) == signal.SIG_IGN
  finally:
    signal.signal(number, before)


def test_only_the_main_thread_sets_handlers():
  seen = []

  def enter():
    with stopping.interruptible():
      seen.append(signal.getsignal(signal.SIGTERM))

  before = signal.getsignal(signal.SIGTERM)
  thread = threading.Thread(target=enter)
  thread.start()
  thread.join()
  assert seen == [before]


def test_nohup_protects_the_command_line():
  """`normjax list` under nohup, as far as its handlers."""
  program = (
    "import signal, types; from normjax import cli;"
    "run = lambda: int(signal.getsignal(signal.SIGHUP) != signal.SIG_IGN);"
    "cli._parse = lambda *given: types.SimpleNamespace(run=run);"
    "raise SystemExit(cli.main(['list']))"
  )
  command = [sys.executable, "-c", program]
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
  plain = subprocess.run(command, env=environment)
  nohup = subprocess.run(["nohup", *command], env=environment)
  assert (plain.returncode, nohup.returncode) == (1, 0)
