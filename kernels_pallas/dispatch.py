"""What an op is, and which of its implementations runs.

An op lists its candidates in order of preference. `impl=None` takes the first
that is supported here; a name or a tuple of names is obeyed, or fails with
every reason. An explicit wish is never replaced in silence.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from kernels_pallas import programs, proved
from kernels_pallas.programs import (
  Cut,
  Target,
  on_each_device,
  one_device,
  rows_over,
  target,
  whole_on,
)

__all__ = [
  "Candidate",
  "Op",
  "Shapes",
  "Supports",
  "Target",
  "UnsupportedError",
  "anywhere",
  "check_residual",
  "check_rows",
  "on_each_device",
  "one_device",
  "recording",
  "refusals",
  "rows_over",
  "target",
  "whole_on",
]

Shapes = Sequence[tuple[int, ...]]
# (target, shapes, dtypes) to why not, or None. Shapes and dtypes are those of
# the arrays among the op's arguments, in their order.
Supports = Callable[[Target, Shapes, Sequence[DTypeLike]], str | None]


class UnsupportedError(ValueError):
  """No implementation that was asked for can run here; says why for each."""


def anywhere(
  target: Target, shapes: Shapes, dtypes: Sequence[DTypeLike]
) -> str | None:
  """Supports of an implementation that runs everywhere."""
  del target, shapes, dtypes


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One implementation of an op.

  Attributes:
    name: what `impl` calls it.
    function: takes the op's arguments.
    supports: why it cannot run on such arrays, or None when it can.
    silicon: it is a kernel that the compiler takes on trust. It runs without
      being asked for only where its contract has passed on such a device.
  """

  name: str
  function: Callable[..., Any]
  supports: Supports = anywhere
  silicon: bool = False


_CHOSEN: contextvars.ContextVar[dict[str, list[str]] | None] = (
  contextvars.ContextVar("chosen", default=None)
)
_REFUSED: contextvars.ContextVar[dict[str, dict[str, list[str]]] | None] = (
  contextvars.ContextVar("refused", default=None)
)


@contextlib.contextmanager
def recording() -> Iterator[dict[str, list[str]]]:
  """Notes the implementations chosen in the block: names by op."""
  chosen: dict[str, list[str]] = {}
  token = _CHOSEN.set(chosen)
  try:
    yield chosen
  finally:
    _CHOSEN.reset(token)


def note(op: str, name: str) -> None:
  """Notes for `recording` what was chosen, also where no `Op` chose it."""
  chosen = _CHOSEN.get()
  if chosen is not None and name not in chosen.setdefault(op, []):
    chosen[op].append(name)


@contextlib.contextmanager
def refusals() -> Iterator[dict[str, dict[str, list[str]]]]:
  """Notes why those before the chosen one were not: reasons by op and name."""
  refused: dict[str, dict[str, list[str]]] = {}
  token = _REFUSED.set(refused)
  try:
    yield refused
  finally:
    _REFUSED.reset(token)


@dataclasses.dataclass(frozen=True)
class Op:
  """An operation with several implementations.

  Attributes:
    name: for messages and records.
    candidates: in order of preference; each takes the op's arguments.
    check: raises TypeError or ValueError for arguments that no candidate
      takes; it is given them all.
    rows: positions of the arguments that are rows, and among each other have
      the same leading axes; the results have them too. Each device of a program
      may then run a kernel on the rows that it has. Empty for an op that is not
      one of rows.
    leading: how many of their axes, the first ones, do not meet in the op;
      None for all but the last.
  """

  name: str
  candidates: tuple[Candidate, ...]
  check: Callable[..., None]
  rows: tuple[int, ...] = ()
  leading: int | None = None

  @property
  def implementations(self) -> tuple[str, ...]:
    """What `impl` may name."""
    return tuple(candidate.name for candidate in self.candidates)

  def __call__(
    self, x: Array, *arguments: Any, impl: str | Sequence[str] | None
  ) -> Any:
    """Checks the arguments, and runs the candidate that `choose` gives."""
    self.check(x, *arguments)
    arguments = (x, *arguments)
    candidate, cut = self._choose(impl, arguments)
    if cut is None:
      return candidate.function(*arguments)
    return cut.run(candidate.function, arguments, self.rows)

  def choose(
    self, impl: str | Sequence[str] | None, *arguments: Any
  ) -> Candidate:
    """The first candidate, of those asked for, that supports the arrays.

    Args:
      impl: None for all, or the names allowed, in order of preference.
      *arguments: of the op; the arrays among them, or tracers, decide.

    Raises:
      TypeError: an `impl` that is neither a name nor several.
      UnsupportedError: an unknown name, or none is supported.
    """
    return self._choose(impl, arguments)[0]

  def by_leaf(
    self, impl: str | Sequence[str] | None, leaves: Iterable[Sequence[Any]]
  ) -> dict[str, list[int]]:
    """The numbers of the leaves that each candidate takes, by its name.

    Args:
      impl: see `choose`.
      leaves: the op's arguments of each, which are checked.
    """
    chosen: dict[str, list[int]] = {}
    for n, arguments in enumerate(leaves):
      self.check(*arguments)
      chosen.setdefault(self.choose(impl, *arguments).name, []).append(n)
    return chosen

  def _choose(
    self, impl: str | Sequence[str] | None, arguments: Sequence[Any]
  ) -> tuple[Candidate, Cut | None]:
    """See `choose`; and how the rows are cut, if the candidate must be told."""
    by_name = {candidate.name: candidate for candidate in self.candidates}
    names = self._names(impl)
    arrays = {n: a for n, a in enumerate(arguments) if hasattr(a, "dtype")}
    here = target(*arrays.values())
    reasons: dict[str, str] = {}
    for name in self.implementations if names is None else names:
      candidate = by_name[name]
      fit = self._fit(candidate, here, arrays)
      if candidate.silicon and names is None and not isinstance(fit, str):
        fit = self._unproved(candidate, here) or fit
      if not isinstance(fit, str):
        self._note(name, reasons)
        return candidate, fit
      reasons[name] = fit
    every = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise UnsupportedError(
      f"{self.name}: none of the implementations asked for can run here"
      f" ({here.devices} x {here.device_kind}, shapes"
      f" {[a.shape for a in arrays.values()]})."
      f" {every}."
    )

  def _names(self, impl: str | Sequence[str] | None) -> Sequence[str] | None:
    """Those asked for. All are known: a typo is found where it is not taken."""
    if impl is None:
      return None
    names = [impl] if isinstance(impl, str) else impl
    if not isinstance(names, list | tuple):
      raise TypeError(
        f"{self.name} needs an impl that is a name, several, or None; got"
        f" {impl!r}."
      )
    known = self.implementations
    for name in names or [""]:
      if name not in known:
        raise UnsupportedError(
          f"{self.name} has no implementation {name!r};"
          f" known: {', '.join(known)}."
        )
    return names

  def _fit(
    self, candidate: Candidate, here: Target, arrays: Mapping[int, Array]
  ) -> Cut | str | None:
    """None: it can run here; a cut: it can on each device; or why not."""
    shapes = {n: array.shape for n, array in arrays.items()}
    dtypes = [array.dtype for array in arrays.values()]
    reason = candidate.supports(here, [*shapes.values()], dtypes)
    if reason is None or here.devices == 1:
      return reason
    cut = self._cut(arrays)
    if isinstance(cut, Cut):
      shapes |= {n: cut.local(shapes[n]) for n in self.rows if n in shapes}
    alone = dataclasses.replace(here, devices=1)
    return candidate.supports(alone, [*shapes.values()], dtypes) or cut

  def _unproved(self, candidate: Candidate, here: Target) -> str | None:
    """Why a kernel that only a chip can prove is no default here."""
    return proved.missing(
      self.name, candidate.name, candidate.function, here.device_kind
    )

  def _cut(self, arrays: Mapping[int, Array]) -> Cut | str:
    """How the rows lie on the devices of the program."""
    if not self.rows:
      return "it is no op of rows; it must be called inside jax.shard_map"
    x = arrays[self.rows[0]]
    return programs.cut(x, x.ndim - 1 if self.leading is None else self.leading)

  def _note(self, name: str, reasons: Mapping[str, str]) -> None:
    """Keeps, for who asked, the name and why those before it were not taken."""
    note(self.name, name)
    refused = _REFUSED.get()
    if refused is None:
      return
    for other, reason in reasons.items():
      kept = refused.setdefault(self.name, {}).setdefault(other, [])
      if reason not in kept:
        kept.append(reason)


def check_rows(op: str, x: Array, **vectors: Array | None) -> None:
  """Checks rows, and vectors of their size.

  Raises:
    TypeError: an x that is not floating, or what is no array.
    ValueError: no rows, or a vector that does not fit; None always does.
  """
  for name, value in {"x": x, **vectors}.items():
    if not hasattr(value, "dtype") and (name == "x" or value is not None):
      raise TypeError(f"{op} needs {name} as an array; got {value!r}.")
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise TypeError(f"{op} needs a floating x; got dtype {x.dtype}.")
  for name, value in vectors.items():
    shape = x.shape[-1:] if value is None else value.shape
    if not x.ndim or shape != x.shape[-1:]:
      raise ValueError(
        f"{op} needs x (..., d) and {name} (d,); got x of shape"
        f" {x.shape} and {name} of shape {shape}."
      )


def check_residual(op: str, x: Array, residual: Array | None) -> None:
  """Checks what is to be added to rows.

  Raises:
    TypeError: of another dtype.
    ValueError: of another shape; None always fits.
  """
  if residual is None:
    return
  if not hasattr(residual, "dtype"):
    raise TypeError(
      f"{op} needs a residual that is an array; got {residual!r}."
    )
  if residual.dtype != x.dtype:
    raise TypeError(
      f"{op} needs a residual of the dtype of x; got {residual.dtype} and x of"
      f" {x.dtype}."
    )
  if residual.shape != x.shape:
    raise ValueError(
      f"{op} needs a residual of the shape of x; got {residual.shape} and x of"
      f" shape {x.shape}."
    )
