"""Whole matrices, shared out over the devices of a program.

What multiplies or factorises a matrix many times (Newton-Schulz, QR, SVD) reads
all of it again and again. Of parameters that are cut over devices the compiler
gathers each matrix on each device, for every product anew; of parameters that
are whole everywhere all devices compute the same. Here each device gets some
matrices of a stack, and has the whole of each: one exchange before, one after,
and nothing computed twice.

Matrices of one shape cost the same, so that equal numbers of them are equal
work. Of a stack that does not come out even, some devices get zeros.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from normjax.types import Array


class _Shared(NamedTuple):
  mesh: AbstractMesh
  least: int  # Stacks of fewer matrices stay as they are.


_SHARED: contextvars.ContextVar[_Shared | None] = contextvars.ContextVar(
  "shared", default=None
)


@contextlib.contextmanager
def over(mesh: Mesh | AbstractMesh, *, cut: bool) -> Iterator[None]:
  """Has updates that are traced in the block share out their matrices.

  Args:
    mesh: of the program; its axes are `AxisType.Auto`.
    cut: whether parameters are cut by it. Else a lone matrix is not shared: all
      have it, and computing it everywhere costs no exchange.
  """
  token = _SHARED.set(_Shared(mesh.abstract_mesh, least=1 if cut else 2))
  try:
    yield
  finally:
    _SHARED.reset(token)


def shares() -> bool:
  """Whether matrices are shared out here.

  Not inside of `jax.shard_map`, where each device has arrays of its own.
  """
  shared = _SHARED.get()
  if shared is None or shared.mesh.size == 1:
    return False
  return not jax.sharding.get_abstract_mesh().manual_axes


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
  """The function, each device computing it for some of the matrices.

  Args:
    function: of stacks (n, …) of one length n, whose entries it treats apart;
      returns arrays, in any tree, with that axis. Of zeros it must not fail.
  """

  @functools.wraps(function)
  def run(*stacks: Array) -> Any:
    said, count = _SHARED.get(), len(stacks[0])
    if said is None or not shares() or count < said.least:
      return function(*stacks)
    spare = -count % said.mesh.size
    padded = [
      jnp.pad(x, [(0, spare), *[(0, 0)] * (x.ndim - 1)]) for x in stacks
    ]
    by_matrix = PartitionSpec(said.mesh.axis_names)
    results = jax.shard_map(
      function,
      mesh=said.mesh,
      in_specs=by_matrix,
      out_specs=by_matrix,
      check_vma=False,
    )(*padded)
    return jax.tree.map(lambda x: x[:count], results)

  return run
