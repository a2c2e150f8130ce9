"""Which implementation of an op runs: the first that can, or the one asked.

An op lists its candidates in order of preference. `impl=None` takes the first
that is supported here; a name or a tuple of names is obeyed, or fails with
every reason. An explicit wish is never replaced in silence.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax import Array
from jax.typing import DTypeLike

Shapes = Sequence[tuple[int, ...]]
# (platform, shapes, dtypes) of the op's arrays to why not, or None.
Supports = Callable[[str, Shapes, Sequence[DTypeLike]], str | None]


class UnsupportedError(ValueError):
  """No implementation that was asked for can run here; says why for each."""


def anywhere(
  platform: str, shapes: Shapes, dtypes: Sequence[DTypeLike]
) -> str | None:
  """Supports of an implementation that runs everywhere."""
  del platform, shapes, dtypes


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One implementation of an op.

  Attributes:
    name: what `impl` calls it.
    function: takes the op's arguments.
    supports: why it cannot run on such arrays, or None when it can.
  """

  name: str
  function: Callable[..., Any]
  supports: Supports = anywhere


def platform() -> str:
  """The platform traced for: an abstract device's, else the default one's."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform


_RECORD: contextvars.ContextVar[dict[str, list[str]] | None] = (
  contextvars.ContextVar("record", default=None)
)


@contextlib.contextmanager
def recording() -> Iterator[dict[str, list[str]]]:
  """Notes the implementations chosen in the block: names by op."""
  chosen: dict[str, list[str]] = {}
  token = _RECORD.set(chosen)
  try:
    yield chosen
  finally:
    _RECORD.reset(token)


def choose(
  op: str,
  candidates: Sequence[Candidate],
  impl: str | Sequence[str] | None,
  *arrays: Array,
) -> Candidate:
  """The first candidate, of those asked for, that supports the arrays.

  Args:
    op: the op's name, for messages.
    candidates: in order of preference.
    impl: None for all, or the names allowed, in order of preference.
    *arrays: the arrays whose shapes and dtypes decide; tracers will do.

  Raises:
    UnsupportedError: an unknown name, or none is supported.
  """
  by_name = {candidate.name: candidate for candidate in candidates}
  names = (impl,) if isinstance(impl, str) else impl
  if names is None:
    names = tuple(by_name)
  here = platform()
  shapes = [array.shape for array in arrays]
  dtypes = [array.dtype for array in arrays]
  reasons = []
  for name in names:
    if name not in by_name:
      raise UnsupportedError(
        f"{op} has no implementation {name!r}; known: {', '.join(by_name)}."
      )
    reason = by_name[name].supports(here, shapes, dtypes)
    if reason is None:
      record = _RECORD.get()
      if record is not None and name not in record.setdefault(op, []):
        record[op].append(name)
      return by_name[name]
    reasons.append(f"{name}: {reason}")
  raise UnsupportedError(
    f"{op}: none of the implementations asked for can run here"
    f" ({here}, shapes {shapes}). {'; '.join(reasons)}."
  )
