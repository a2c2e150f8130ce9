"""Batches made while the device computes, by Grain."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from normjax.data.dataset import Batch

# Seeds that train side by side each have a reader.
_MOST_READERS = 8


@dataclasses.dataclass
class _Reader:
  """Where the reading of one seed is; `iterator` once it reads ahead."""

  step: int
  batch: Batch
  iterator: Any = None

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

  def __init__(self, make: Callable[[int, int, int], Batch], num_batches: int):
    """Makes nothing yet.

    Args:
      make: (seed, step, batch size) -> batch, a pure function.
      num_batches: how many to be ahead; 0 makes none ahead.
    """
    self._make, self._num_batches = make, num_batches
    self._readers: OrderedDict[tuple[int, int], _Reader] = OrderedDict()

  def batch(self, seed: int, step: int, batch_size: int) -> Batch:
    """The batch of a step."""
    if not self._num_batches:
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
      reader.step, reader.batch = step, next(reader.iterator)
    self._readers[key] = reader
    if len(self._readers) > _MOST_READERS:
      self._readers.popitem(last=False)[1].close()
    return dict(reader.batch)

  def _open(self, seed: int, step: int, batch_size: int) -> Any:
    import grain  # Late: Grain starts slowly.

    steps = grain.MapDataset.range(step, 1 << 40)
    batches = steps.map(lambda at: self._make(seed, int(at), batch_size))
    options = grain.ReadOptions(
      num_threads=1, prefetch_buffer_size=self._num_batches
    )
    return iter(batches.to_iter_dataset(options))
