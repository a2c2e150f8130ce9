"""Grain's processes, as they must be beside a run: quiet, and gone with it."""

import functools
import os
import signal
import sys
import threading
import time
from typing import Any

from normjax import stopping

_LOOKS_EVERY_S = 1.0


def prefetched(batches: Any, num_processes: int, num_batches: int) -> Any:
  """The batches of a Grain dataset in order, made by processes.

  Args:
    batches: a MapDataset that pickles.
    num_processes: that make them.
    num_batches: to be ahead, of all together.

  Returns:
    An iterator, to be closed.
  """
  import grain  # Late: Grain starts slowly.

  _mark_flags_as_parsed()
  one_by_one = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
  options = grain.MultiprocessingOptions(
    num_workers=num_processes,
    per_worker_buffer_size=-(-num_batches // num_processes),
  )
  made = batches.to_iter_dataset(one_by_one)
  made = made.mp_prefetch(options, worker_init_fn=_begin)
  # Not in shared memory: what is in it when the run ends is never freed.
  plain = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
  return iter(grain.experimental.WithOptionsIterDataset(made, plain))


@functools.cache
def _mark_flags_as_parsed() -> None:
  """Grain reads absl's flags before it starts a process; nobody parses them."""
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


def _begin(index: int, count: int) -> None:
  """The first that a process does.

  A signal to all processes of a job is for the run: it ends in order, and needs
  its batches until then. A run that is killed cannot end its processes.
  """
  del index, count
  for number in (*stopping.SIGNALS, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)
  parent = os.getppid()
  watch = functools.partial(_end_with, parent)
  threading.Thread(target=watch, daemon=True).start()


def _end_with(parent: int) -> None:
  while os.getppid() == parent:
    time.sleep(_LOOKS_EVERY_S)
  os._exit(1)
