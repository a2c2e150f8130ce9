"""Statistics of a batch per device: each sees its own part alone.

By default a norm's statistics are of the whole batch, whatever the number of
devices. With `train.layout.batch_statistics="device"` a device takes those of
its part, as large runs of batch norm often do: nothing is exchanged in the
forward pass, and the noise is that of a smaller batch. What is kept after the
step is the mean over devices, as it is over micro-batches.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from normjax.types import Array, PyTree

_Parts = tuple[AbstractMesh, tuple[str, ...]]
_PARTS: contextvars.ContextVar[_Parts | None] = contextvars.ContextVar(
  "parts", default=None
)


@contextlib.contextmanager
def over(mesh: Mesh | AbstractMesh, axes: tuple[str, ...]) -> Iterator[None]:
  """Has `each` split what is traced in the block.

  Args:
    mesh: of the program, every device of which has all parameters.
    axes: those that split the batch: all of the mesh.
  """
  token = _PARTS.set((mesh.abstract_mesh, axes))
  try:
    yield
  finally:
    _PARTS.reset(token)


def each[S, T](
  function: Callable[[tuple[Array, PyTree]], tuple[S, T, dict[str, Array]]],
) -> Callable[[tuple[Array, PyTree]], tuple[S, T, dict[str, Array]]]:
  """The function of (index, batch), by each device on its part of the batch.

  Args:
    function: returns sums over the batch, statistics, and what was measured by
      name; every part gets an index of its own.

  Returns:
    The sums of all parts, of statistics `over_parts`, of measured values the
    mean, of those called ".../max" the largest. The function itself outside of
    `over`.
  """
  parts = _PARTS.get()
  if parts is None or parts[0].size == 1:
    return function
  mesh, axes = parts

  def local(index, batch):
    own = index * mesh.size + lax.axis_index(axes)
    sums, statistics, measured = function((own, batch))
    measured = {
      name: (lax.pmax if name.endswith("/max") else lax.pmean)(value, axes)
      for name, value in measured.items()
    }
    return lax.psum(sums, axes), _over_parts(statistics, axes), measured

  whole = PartitionSpec()
  shared = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(whole, PartitionSpec(axes)),
    out_specs=whole,
    check_vma=False,
  )
  return lambda indexed: shared(*indexed)


def _over_parts(statistics: PyTree, axes: tuple[str, ...]) -> PyTree:
  """Means; of counters and flags the largest."""

  def reduced(value):
    is_mean = jnp.issubdtype(value.dtype, jnp.inexact)
    return (lax.pmean if is_mean else lax.pmax)(value, axes)

  return jax.tree.map(reduced, statistics)
