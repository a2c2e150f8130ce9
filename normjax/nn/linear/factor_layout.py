"""Where the factors of a matrix lie on the devices when they make it.

A product of split factors is split, and to add entries to it XLA gathers the
whole matrix: more bytes than its factors have, and twice per step. A layout
says once that factors are gathered instead. Where nothing is said, nothing
happens.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

from normjax.types import Array

_PLACE: contextvars.ContextVar[Callable[[Array], Array] | None] = (
  contextvars.ContextVar("place", default=None)
)


@contextlib.contextmanager
def gathered_by(place: Callable[[Array], Array]) -> Iterator[None]:
  """Has `gathered` call this function on what is traced in the block.

  Args:
    place: the same array, said to be whole on every device.
  """
  token = _PLACE.set(place)
  try:
    yield
  finally:
    _PLACE.reset(token)


def gathered(factor: Array) -> Array:
  """A factor, whole where `gathered_by` says so."""
  place = _PLACE.get()
  return factor if place is None else place(factor)
