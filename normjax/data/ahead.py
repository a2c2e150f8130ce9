"""Batches made while the device computes, by Grain: on threads or processes."""

import atexit
import dataclasses
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from normjax import errors, validate
from normjax.data import ahead_processes
from normjax.data.dataset import Batch

# Seeds that train side by side each have a reader; one that was not asked in so
# many rounds of all of them is of a run that is over.
_ROUNDS, _LEAST_ASKED = 4, 8
_BATCHES_EACH = 2


# More of them stop a machine; each has batches in memory.
_MOST = 256


class Reading(NamedTuple):
  """By what batches are made ahead of the step; what they hold is the same.

  Attributes:
    threads: that make them; 0: none is made ahead, unless there are workers.
    workers: processes that make them, in place of the threads. Each has a copy
      of the data set, and takes seconds to start.
    batches: to be ahead; None: two for each thread or process.
  """

  threads: int = 1
  workers: int = 0
  batches: int | None = None

  def check(self, owner: str) -> None:
    """Raises UserError where a number is none."""
    for name, value in (("threads", self.threads), ("workers", self.workers)):
      validate.count(owner, name, value, 0)
      if value > _MOST:
        validate.refuse(owner, name, value, f"0 to {_MOST}")

  @property
  def num_batches(self) -> int:
    """How many to be ahead."""
    makers = self.workers or self.threads
    if self.batches is None or not makers:
      return _BATCHES_EACH * makers
    return self.batches


NOTHING_AHEAD = Reading(threads=0)
# Those that may have threads or processes, to be ended with this process: later
# than that Grain cannot.
_OPEN: weakref.WeakSet["ReadAhead"] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
  for each in list(_OPEN):
    each.close()


@dataclasses.dataclass
class _Reader:
  """Where the reading of one seed is; `iterator` once it reads ahead.

  `asked` is the number of the question that it answered last.
  """

  step: int
  batch: Batch
  iterator: Any = None
  asked: int = 0

  def close(self) -> None:
    """Stops reading ahead."""
    if self.iterator is not None:
      self.iterator.close()
      self.iterator = None


class ReadAhead:
  """Makes the batches that follow the one that was asked for.

  What a batch holds is not changed: a batch that was not made ahead is made
  when it is asked for. Runs of one seed that train side by side ask for each
  batch in turn; it is made once.
  """

  def __init__(self, make: Callable[[int, int, int], Batch], reading: Reading):
    """Makes nothing yet.

    Args:
      make: (seed, step, batch size) -> batch, a pure function, which pickles
        where there are to be processes.
      reading: by what, and how many ahead.
    """
    self._make, self._reading = make, reading
    self._readers: OrderedDict[tuple[int, int], _Reader] = OrderedDict()
    self._asked = 0

  def __del__(self) -> None:
    """Ends threads and processes with the data set."""
    self.close()

  def close(self) -> None:
    """Stops reading ahead; whoever asks again starts it anew."""
    while self._readers:
      self._readers.popitem()[1].close()

  def __getstate__(self) -> dict[str, Any]:
    """A process makes what it is asked for, and reads nothing ahead."""
    return {
      **vars(self),
      "_reading": NOTHING_AHEAD,
      "_readers": OrderedDict(),
    }

  def batch(self, seed: int, step: int, batch_size: int) -> Batch:
    """The batch of a step."""
    if not self._reading.num_batches:
      return self._make(seed, step, batch_size)
    key = seed, batch_size
    reader = self._readers.pop(key, None)
    if reader is None or step not in (reader.step, reader.step + 1):
      if reader is not None:
        reader.close()
      # It may be asked for alone; who asks for the next one reads on.
      reader = _Reader(step, self._make(seed, step, batch_size))
    elif step == reader.step + 1:
      if reader.iterator is None:
        reader.iterator = self._open(seed, step, batch_size)
      try:
        reader.step, reader.batch = step, self._next(reader.iterator)
      except BaseException:
        reader.close()  # Who asks again has it made anew.
        raise
    self._asked += 1
    reader.asked, self._readers[key] = self._asked, reader
    self._close_old()
    return dict(reader.batch)

  def _close_old(self) -> None:
    """Closes the readers that nobody asks any more."""
    kept = _ROUNDS * len(self._readers) + _LEAST_ASKED
    while next(iter(self._readers.values())).asked < self._asked - kept:
      self._readers.popitem(last=False)[1].close()

  def _next(self, iterator: Any) -> Batch:
    try:
      return next(iterator)
    except RuntimeError as error:
      # Grain has no narrower type for a process that is gone.
      if not self._reading.workers or "terminated" not in str(error):
        raise
      was_killed = "exit code -" in str(error)
      why = (
        "it was killed, mostly for want of memory"
        if was_killed
        else "a script that trains must do so below `if __name__ =="
        " '__main__':`, as each process imports it"
      )
      # Another attempt may have the memory; nobody mends a script by trying.
      raise (RuntimeError if was_killed else errors.DataError)(
        f"data.workers={self._reading.workers}: a process that makes batches"
        f" ended: {why}. data.workers=0 reads ahead on threads. ({error})"
      ) from error

  def _open(self, seed: int, step: int, batch_size: int) -> Any:
    import grain  # Late: Grain starts slowly.

    _OPEN.add(self)
    steps = grain.MapDataset.range(step, 1 << 40)
    batches = steps.map(_Batches(self._make, seed, batch_size))
    reading = self._reading
    if reading.workers:
      return ahead_processes.prefetched(
        batches, reading.workers, reading.num_batches
      )
    options = grain.ReadOptions(
      num_threads=reading.threads, prefetch_buffer_size=reading.num_batches
    )
    return iter(batches.to_iter_dataset(options))


class _Batches(NamedTuple):
  """From a step to its batch; pickles where `make` does."""

  make: Callable[[int, int, int], Batch]
  seed: int
  batch_size: int

  def __call__(self, step: Any) -> Batch:
    """The batch of a step."""
    return self.make(self.seed, int(step), self.batch_size)
