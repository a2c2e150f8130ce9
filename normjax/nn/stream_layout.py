"""Where the stream of a model lies on the devices, for those who know it.

Inside a loop over blocks the compiler sees no batch whose cut it could follow,
and gathers the whole of it on every device. A layout says once how the stream
is cut, and stacks of blocks hold it to that. Where nothing is said, nothing
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
def placed_by(place: Callable[[Array], Array]) -> Iterator[None]:
  """Has `held` call this function on what is traced in the block.

  Args:
    place: the same array, its sharding said.
  """
  token = _PLACE.set(place)
  try:
    yield
  finally:
    _PLACE.reset(token)


def held(x_btd: Array) -> Array:
  """The stream, where `placed_by` says that it lies."""
  place = _PLACE.get()
  return x_btd if place is None else place(x_btd)
