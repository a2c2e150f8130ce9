"""What an op is, and which of its implementations runs.

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
import jax.numpy as jnp
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


@dataclasses.dataclass(frozen=True)
class Op:
  """An operation with several implementations.

  Attributes:
    name: for messages and records.
    candidates: in order of preference; each takes the op's arguments.
    check: raises TypeError or ValueError for arguments that no candidate
      takes; it is given them all.
  """

  name: str
  candidates: tuple[Candidate, ...]
  check: Callable[..., None]

  @property
  def implementations(self) -> tuple[str, ...]:
    """What `impl` may name."""
    return tuple(candidate.name for candidate in self.candidates)

  def __call__(
    self, x: Array, *arguments: Any, impl: str | Sequence[str] | None
  ) -> Any:
    """Checks the arguments, and runs the candidate that `choose` gives."""
    self.check(x, *arguments)
    return self.choose(impl, x).function(x, *arguments)

  def choose(self, impl: str | Sequence[str] | None, x: Array) -> Candidate:
    """The first candidate, of those asked for, that supports the array.

    Args:
      impl: None for all, or the names allowed, in order of preference.
      x: its shape and dtype decide; a tracer will do.

    Raises:
      UnsupportedError: an unknown name, or none is supported.
    """
    by_name = {candidate.name: candidate for candidate in self.candidates}
    names = (impl,) if isinstance(impl, str) else impl
    here, shapes, dtypes = platform(), [x.shape], [x.dtype]
    reasons = []
    for name in self.implementations if names is None else names:
      if name not in by_name:
        raise UnsupportedError(
          f"{self.name} has no implementation {name!r};"
          f" known: {', '.join(by_name)}."
        )
      reason = by_name[name].supports(here, shapes, dtypes)
      if reason is None:
        record = _RECORD.get()
        if record is not None and name not in record.setdefault(self.name, []):
          record[self.name].append(name)
        return by_name[name]
      reasons.append(f"{name}: {reason}")
    raise UnsupportedError(
      f"{self.name}: none of the implementations asked for can run here"
      f" ({here}, shapes {shapes}). {'; '.join(reasons)}."
    )


def check_rows(op: str, x: Array, **vectors: Array | None) -> None:
  """Checks rows, and vectors of their size.

  Raises:
    TypeError: an x that is not floating.
    ValueError: no rows, or a vector that does not fit; None always does.
  """
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise TypeError(f"{op} needs a floating x; got dtype {x.dtype}.")
  for name, value in vectors.items():
    shape = x.shape[-1:] if value is None else value.shape
    if not x.ndim or shape != x.shape[-1:]:
      raise ValueError(
        f"{op} needs x (..., d) and {name} (d,); got x of shape"
        f" {x.shape} and {name} of shape {shape}."
      )
