"""Batches made while the device computes, by Grain."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from normjax.data.dataset import Batch

# Runs that train side by side each have a reader.
_MOST_READERS = 16


class ReadAhead:
  """Makes the batches that follow the one that was asked for.

  What a batch holds is not changed: a batch that was not made ahead is made
  when it is asked for.
  """

  def __init__(self, make: Callable[[int, int, int], Batch], num_batches: int):
    """Makes nothing yet.

    Args:
      make: (seed, step, batch size) -> batch, a pure function.
      num_batches: how many to be ahead; 0 makes none ahead.
    """
    self._make, self._num_batches = make, num_batches
    # (seed, batch size) -> (the step that is next, its reader once it has one).
    self._readers: OrderedDict[tuple[int, int], tuple[int, Any]] = OrderedDict()

  def batch(self, seed: int, step: int, batch_size: int) -> Batch:
    """The batch of a step."""
    key = seed, batch_size
    expected, reader = self._readers.pop(key, (None, None))
    # One batch may be asked for alone; who asks for the next one reads on.
    if step != expected or not self._num_batches:
      if reader is not None:
        reader.close()
      reader, batch = None, self._make(seed, step, batch_size)
    else:
      reader = reader or self._open(seed, step, batch_size)
      batch = next(reader)
    self._readers[key] = step + 1, reader
    if len(self._readers) > _MOST_READERS:
      _, (_, oldest) = self._readers.popitem(last=False)
      if oldest is not None:
        oldest.close()
    return batch

  def _open(self, seed: int, step: int, batch_size: int) -> Any:
    import grain  # Late: Grain starts slowly.

    steps = grain.MapDataset.range(step, 1 << 40)
    batches = steps.map(lambda at: self._make(seed, int(at), batch_size))
    return iter(
      batches.to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=self._num_batches)
      )
    )
