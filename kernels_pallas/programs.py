"""What is known of a program while it is traced: its devices, and who has what.

An op asks here before it chooses. Where nothing is known, the answer is the one
that compiles on any number of devices.
"""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax import Array
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec


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


def one_device(target: Target) -> str | None:
  """Why a kernel that no compiler can split over devices cannot run."""
  if target.devices == 1:
    return None
  return "with several devices it must be called inside jax.shard_map"


# The mesh of the program, and its axes that together cut rows.
_Rows = tuple[AbstractMesh, tuple[str, ...]]
_ROWS: contextvars.ContextVar[_Rows | None] = contextvars.ContextVar(
  "rows", default=None
)


@contextlib.contextmanager
def rows_over(mesh: Mesh | AbstractMesh, *axes: str) -> Iterator[None]:
  """Says of the arrays of rows traced in the block how they are cut.

  With `AxisType.Auto` their types do not tell. What is said wrongly costs time,
  not correctness.

  Args:
    mesh: of the program.
    *axes: those of the mesh which together cut the first axis of the arrays.
  """
  token = _ROWS.set((mesh.abstract_mesh, axes))
  try:
    yield
  finally:
    _ROWS.reset(token)


_WHOLE: contextvars.ContextVar[AbstractMesh | None] = contextvars.ContextVar(
  "whole", default=None
)


@contextlib.contextmanager
def whole_on(mesh: Mesh | AbstractMesh) -> Iterator[None]:
  """Says of parameters in the block that every device has the whole of them.

  So with their gradients and what an optimizer holds of them: see
  `on_each_device`.
  """
  token = _WHOLE.set(mesh.abstract_mesh)
  try:
    yield
  finally:
    _WHOLE.reset(token)


def on_each_device(function: Callable[..., Any], *trees: Any) -> Any:
  """function(*trees), by each device for itself where it has whole arrays.

  Inside, a kernel that no compiler can split finds one device. Without
  `whole_on`, or already inside of `jax.shard_map`, it is a plain call.

  Args:
    function: of parameters, gradients and state, trees of arrays.
    *trees: its arguments.
  """
  mesh = _WHOLE.get()
  if mesh is None or mesh.size == 1:
    return function(*trees)
  if jax.sharding.get_abstract_mesh().manual_axes:
    return function(*trees)
  whole = PartitionSpec()
  return jax.shard_map(
    function, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False
  )(*trees)


def target(*arrays: Array) -> Target:
  """What the program being traced is compiled for.

  That is the mesh of `jax.set_mesh` or `jax.shard_map`, else one in the type of
  an array, else that of `rows_over`. A program without any may have all devices
  that are here.
  """
  mesh = _mesh(arrays)
  device = None if mesh is None else mesh.abstract_device
  if device is None:
    device = jax.devices()[0]
  if mesh is None:
    devices = jax.device_count()
  elif mesh.empty or mesh.are_all_axes_manual:
    devices = 1
  else:
    devices = mesh.size
  return Target(device.platform, device.device_kind, devices)


def _mesh(arrays: Sequence[Array]) -> AbstractMesh | None:
  """The mesh of the program, or an abstract device's, which has no axes."""
  context = jax.sharding.get_abstract_mesh()
  said = _ROWS.get()
  meshes = [
    context,
    *(jax.typeof(array).sharding.mesh for array in arrays),
    *(() if said is None else [said[0]]),
  ]
  named = next((mesh for mesh in meshes if mesh.axis_names), None)
  return named or (context if context.abstract_device else None)


@dataclasses.dataclass(frozen=True)
class Cut:
  """How an array of rows lies on the devices of a program.

  Attributes:
    mesh: all of it cuts rows.
    spec: the mesh axes that cut each of the array's first axes.
  """

  mesh: AbstractMesh
  spec: PartitionSpec

  def local(self, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of the part that a device has of an array of this shape."""
    return NamedSharding(self.mesh, self.spec).shard_shape(shape)

  def run(
    self,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    rows: Sequence[int],
  ) -> Any:
    """function(*arguments), each device on the rows that it has.

    Args:
      function: what it returns has the leading axes of the rows.
      arguments: arrays go in as arguments of `jax.shard_map`.
      rows: positions of those that are cut; the others are whole on every
        device, and their gradients summed over all.
    """
    positions = [n for n, a in enumerate(arguments) if hasattr(a, "dtype")]
    specs = [self.spec if n in rows else PartitionSpec() for n in positions]

    def local(*values):
      given = list(arguments)
      for n, value in zip(positions, values, strict=True):
        given[n] = value
      return function(*given)

    # Kernels do not say over which axes their results vary.
    return jax.shard_map(
      local,
      mesh=self.mesh,
      in_specs=tuple(specs),
      out_specs=self.spec,
      check_vma=False,
    )(
      *(
        self._laid(arguments[n], spec)
        for n, spec in zip(positions, specs, strict=True)
      )
    )

  def _laid(self, x: Array, spec: PartitionSpec) -> Array:
    """As `jax.shard_map` wants what has explicit axes."""
    mesh = jax.typeof(x).sharding.mesh
    if not mesh.explicit_axes:
      return x
    return jax.sharding.reshard(x, NamedSharding(mesh, spec))


def cut(x: Array, leading: int) -> Cut | str:
  """How x lies on the several devices of a program, or why no op can follow.

  Args:
    x: rows; a tracer will do.
    leading: how many axes, the first ones, may be cut.
  """
  mesh = _mesh([x])
  if mesh is None or not mesh.axis_names:
    return (
      "nothing says how many devices this program has; put x on a mesh, of one"
      " device too, or use jax.set_mesh"
    )
  if mesh.manual_axes:
    left = [a for a in mesh.axis_names if a not in mesh.manual_axes]
    return f"this jax.shard_map leaves {', '.join(left)} to the compiler"
  spec = _spec(x, mesh)
  if spec is None:
    return (
      f"its type does not say how x is cut over {mesh.size} devices; use"
      " explicit axes, dispatch.rows_over or jax.shard_map"
    )
  if any(spec[leading:]):
    return f"{spec} cuts x inside of what the op reads together"
  names = [_names(entry) for entry in spec[:leading]]
  used = {name for group in names for name in group}
  idle = [a for a in mesh.axis_names if a not in used and mesh.shape[a] > 1]
  if idle:
    # Along such an axis the gradient of x would be summed once more.
    return f"x is not cut by {', '.join(idle)}; use jax.shard_map"
  for size, group in zip(x.shape, names, strict=False):
    if size % math.prod(mesh.shape[name] for name in group):
      return f"{spec} does not cut x of shape {x.shape} evenly"
  return Cut(mesh, PartitionSpec(*spec[:leading]))


def _spec(x: Array, mesh: AbstractMesh) -> PartitionSpec | None:
  """The mesh axes that cut x, as its type or else `rows_over` says."""
  sharding = jax.typeof(x).sharding
  if sharding.mesh.explicit_axes:
    return sharding.spec
  said = _ROWS.get()
  if said is None or not {*said[1]} <= {*mesh.axis_names} or not x.ndim:
    return None
  return PartitionSpec(said[1])


def _names(entry: Any) -> tuple[str, ...]:
  """The mesh axes of an entry of a spec, which cut one axis."""
  if entry is None:
    return ()
  return entry if isinstance(entry, tuple) else (entry,)
