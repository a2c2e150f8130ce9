"""What a layout says of arrays that a model has inside, for a block of code."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

from normjax.types import Array


class Placing:
  """Where arrays of one kind lie on the devices, if somebody says so."""

  def __init__(self, name: str):
    """Nothing is said yet.

    Args:
      name: of the context variable.
    """
    self._place: contextvars.ContextVar[Callable[[Array], Array] | None] = (
      contextvars.ContextVar(name, default=None)
    )

  @contextlib.contextmanager
  def by(self, place: Callable[[Array], Array]) -> Iterator[None]:
    """Has a call of this object call `place` on what is traced in the block.

    Args:
      place: the same array, its sharding said.
    """
    token = self._place.set(place)
    try:
      yield
    finally:
      self._place.reset(token)

  def __call__(self, x: Array) -> Array:
    """The array, placed where that is said; else as it is."""
    place = self._place.get()
    return x if place is None else place(x)
