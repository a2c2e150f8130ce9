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
from jax.sharding import AbstractMesh
from jax.typing import DTypeLike

Shapes = Sequence[tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Target:
  """What a program is compiled for.

  Attributes:
    platform: "cpu", "gpu" or "tpu".
    device_kind: as the device names itself, "NVIDIA H200".
    devices: how many the program has; 1 where each device runs code of its
      own, inside `jax.shard_map`.
  """

  platform: str
  device_kind: str
  devices: int


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


def target(*arrays: Array) -> Target:
  """What the program being traced is compiled for.

  The mesh that `jax.set_mesh` set decides, or else that which is in the type of
  an array; without any all the devices here may be meant.
  """
  meshes = [
    jax.sharding.get_abstract_mesh(),
    *(jax.typeof(array).sharding.mesh for array in arrays),
  ]
  device = next((m.abstract_device for m in meshes if m.abstract_device), None)
  if device is None:
    first = jax.devices()[0]
    return Target(first.platform, first.device_kind, _devices(meshes))
  return Target(device.platform, device.device_kind, _devices(meshes))


def _devices(meshes: Sequence[AbstractMesh]) -> int:
  for mesh in meshes:
    if mesh.axis_names:
      return 1 if mesh.are_all_axes_manual else mesh.size
  # An abstract device that no mesh is made of.
  if any(mesh.abstract_device for mesh in meshes):
    return 1
  return jax.device_count()


def one_device(target: Target) -> str | None:
  """Why a kernel that no compiler can split over devices cannot run."""
  if target.devices == 1:
    return None
  return "with several devices it must be called inside jax.shard_map"


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
    return self.choose(impl, x, *arguments).function(x, *arguments)

  def choose(
    self, impl: str | Sequence[str] | None, *arguments: Any
  ) -> Candidate:
    """The first candidate, of those asked for, that supports the arrays.

    Args:
      impl: None for all, or the names allowed, in order of preference.
      *arguments: of the op; the arrays among them, or tracers, decide.

    Raises:
      UnsupportedError: an unknown name, or none is supported.
    """
    by_name = {candidate.name: candidate for candidate in self.candidates}
    names = (impl,) if isinstance(impl, str) else impl
    arrays = [a for a in arguments if hasattr(a, "dtype")]
    here = target(*arrays)
    shapes, dtypes = [a.shape for a in arrays], [a.dtype for a in arrays]
    reasons = []
    for name in self.implementations if names is None else names:
      if name not in by_name:
        raise UnsupportedError(
          f"{self.name} has no implementation {name!r};"
          f" known: {', '.join(by_name)}."
        )
      candidate = by_name[name]
      reason = candidate.supports(here, shapes, dtypes)
      if reason is None and candidate.silicon and names is None:
        reason = f"not proved on {here.device_kind}"
      if reason is None:
        record = _RECORD.get()
        if record is not None and name not in record.setdefault(self.name, []):
          record[self.name].append(name)
        return candidate
      reasons.append(f"{name}: {reason}")
    raise UnsupportedError(
      f"{self.name}: none of the implementations asked for can run here"
      f" ({here.device_kind}, shapes {shapes}). {'; '.join(reasons)}."
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
