"""Meshes: where state is born, explicit axes, leaves that vary over devices.

A mesh axis is of one of three types (`jax.sharding.AxisType`). With Auto axes
the compiler decides on shardings; with Explicit axes, which `jax.make_mesh`
makes, they are part of an array's type, and products of sharded matrices are
errors; with Manual axes, inside `jax.shard_map`, each device holds an array of
its own, and the type says over which axes it varies.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from jax import lax
from jax.core import Tracer
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from normjax.optim import dims as dims_lib
from normjax.optim import groups
from normjax.types import Array, PyTree

# For each axis the mesh axes that cut it; None for none.
Spec = Sequence[Any]


def _sharding(x: Any) -> Any:
  """Where x was put, or None: no one decided, or the compiler will."""
  if isinstance(x, Tracer):
    sharding = jax.typeof(x).sharding
    return sharding if sharding.mesh.explicit_axes else None
  if isinstance(x, jax.Array):
    return x.sharding if x.committed else None
  return getattr(x, "sharding", None)


def zeros(
  w: Array,
  shape: Sequence[int] | None = None,
  dtype: DTypeLike | None = None,
  spec: Spec = (),
) -> Array:
  """Zeros on the devices of the leaf w, varying over what w varies over.

  Args:
    w: the leaf.
    shape: None for that of w, whose sharding the zeros then take.
    dtype: None for that of w.
    spec: of another shape, as `matrix_spec` makes it; what it does not name is
      whole on every device.
  """
  sharding = _sharding(w)
  if shape is None:
    shape = w.shape
  elif isinstance(sharding, NamedSharding):
    missing = [None] * (len(shape) - len(spec))
    sharding = sharding.update(spec=PartitionSpec(*spec, *missing))
  if sharding is None or not isinstance(w, Tracer):
    return lax.full_like(w, 0, dtype, shape, sharding=sharding)
  # Outside of `jax.set_mesh` what is made in a trace has no mesh yet.
  return jax.sharding.reshard(lax.full_like(w, 0, dtype, shape), sharding)


def leaf_spec(w: Array) -> list[Any]:
  """The mesh axes that cut each axis of a leaf; None where none is known to."""
  sharding = _sharding(w)
  known = sharding.spec if isinstance(sharding, NamedSharding) else ()
  return [*known, *[None] * (len(w.shape) - len(known))]


def whole_first(x: Array) -> Array:
  """`x` with its first axis whole on every device, so that it can be indexed.

  Only explicit axes are asked; of others the compiler decides.
  """
  sharding = jax.typeof(x).sharding
  if not sharding.mesh.explicit_axes or not any(sharding.spec[:1]):
    return x
  spec = PartitionSpec(None, *sharding.spec[1:])
  return jax.sharding.reshard(x, sharding.update(spec=spec))


def put_as(x: Array, like: Array) -> Array:
  """`x` cut as `like` is, an array of its shape, by explicit axes."""
  sharding = jax.typeof(like).sharding
  explicit = bool(sharding.mesh.explicit_axes)
  return jax.sharding.reshard(x, sharding) if explicit else x


def shard_shape(w: Array) -> tuple[int, ...]:
  """Of the part of a leaf that one device has, where `leaf_spec` is known."""
  sharding = _sharding(w)
  known = isinstance(sharding, NamedSharding)
  return sharding.shard_shape(w.shape) if known else w.shape


def matrix_spec(w: Array, entry: dims_lib.MatrixDims) -> tuple[Any, Any, Any]:
  """The mesh axes that cut (matrices, inputs, outputs) of a leaf.

  State of another shape takes them for the axes that it shares with the leaf.
  """
  spec = leaf_spec(w)
  reduction, output = dims_lib.axes(entry)

  def merged(axes):
    first, *rest = [n for n in axes if w.shape[n] > 1] or [None]
    # Of axes that become one, only the first may be cut.
    if first is None or any(spec[n] for n in rest):
      return None
    return spec[first]

  batch = [n for n in range(len(spec)) if n not in reduction + output]
  return merged(batch), merged(reduction), merged(output)


def place(state: PyTree, params: PyTree) -> PyTree:
  """Puts what no one has placed, such as counts, on the parameters' devices.

  `init` makes a count on the first device. Beside parameters on a mesh it would
  be the one array that is elsewhere until the first step moves it, which is
  then compiled a second time. What has a parameter's shape under its path goes
  where that is; anything else is whole on every device.
  """
  owners = {path: (w.shape, _sharding(w)) for path, w in groups.leaves(params)}
  found = [s for _, s in owners.values() if isinstance(s, NamedSharding)]
  if not found:
    return state

  def target(path, x):
    parts = path.split("/")
    for start in range(len(parts)):
      shape, sharding = owners.get("/".join(parts[start:]), (None, None))
      if sharding is not None and shape == x.shape:
        return sharding
    return found[0].update(spec=PartitionSpec(*[None] * x.ndim))

  def move(path, x):
    if isinstance(x, Tracer):
      explicit = isinstance(found[0].mesh, AbstractMesh)
      unplaced = explicit and jax.typeof(x).sharding.mesh.empty
      return jax.sharding.reshard(x, target(path, x)) if unplaced else x
    placed = not isinstance(x, jax.Array) or x.committed
    return x if placed else jax.device_put(x, target(path, x))

  moved = [move(path, x) for path, x in groups.leaves(state)]
  return jax.tree.structure(state).unflatten(moved)


def varying(x: Array, like: Array) -> Array:
  """x, whose type says that it varies over the axes that `like` varies over.

  The carry of a loop and the branches of a condition must agree on it, where
  one of them comes from a constant or from state that all devices share.
  """
  axes = jax.typeof(like).mat.varying - jax.typeof(x).mat.varying
  return lax.pcast(x, tuple(axes), to="varying") if axes else x


def varying_axes(x: Array) -> frozenset[str]:
  """The axes of a `jax.shard_map` over which x varies."""
  return jax.typeof(x).mat.varying


def _explicit(tree: PyTree) -> AbstractMesh | None:
  for leaf in jax.tree.leaves(tree):
    mesh = jax.typeof(leaf).sharding.mesh
    if mesh.explicit_axes:
      return mesh
  return None


def automatic(
  function: Callable[..., Any], args: tuple[Any, ...], like: PyTree = None
) -> Any:
  """function(*args), its explicit axes left to the compiler.

  Args:
    function: takes whatever products it wants. It must not close over arrays,
      which would keep their explicit type.
    args: trees of arrays.
    like: a tree of the results' structure: arrays whose shardings they take, or
      the mesh axes that cut them, as a PartitionSpec. None for results that are
      whole on every device.
  """
  mesh = _explicit(args)
  if mesh is None:
    return function(*args)
  whole = NamedSharding(mesh, PartitionSpec())

  def own(x):
    if isinstance(x, PartitionSpec):
      return whole.update(spec=x)
    sharding = jax.typeof(x).sharding
    return whole if sharding.mesh.empty else sharding

  return jax.sharding.auto_axes(
    function,
    axes=mesh.explicit_axes,
    out_sharding=whole if like is None else jax.tree.map(own, like),
  )(*args)


def on_any_mesh[**P](
  factory: Callable[P, optax.GradientTransformationExtraArgs],
) -> Callable[P, optax.GradientTransformationExtraArgs]:
  """The factory of a transform, whose updates may have explicit axes.

  Those axes are left to the compiler inside of `update`. The updates come back
  with the shardings of the parameters, the state with its own. Options that are
  arrays go in as arguments, see `automatic`.
  """

  @functools.wraps(factory)
  def make(
    *args: P.args, **options: P.kwargs
  ) -> optax.GradientTransformationExtraArgs:
    transform = optax.with_extra_args_support(factory(*args, **options))
    given, structure = jax.tree.flatten((args, options))
    arrays = [n for n, x in enumerate(given) if isinstance(x, jax.Array)]
    make_again: Any = factory

    def remade(values):
      leaves = list(given)
      for n, value in zip(arrays, values, strict=True):
        leaves[n] = value
      args, options = structure.unflatten(leaves)
      return optax.with_extra_args_support(make_again(*args, **options))

    def init(params):
      return place(transform.init(params), params)

    def update(updates, state, params=None, **extra_args):
      if _explicit((updates, state, params)) is None:
        return transform.update(updates, state, params, **extra_args)

      def run(values, updates, state, params):
        return remade(values).update(updates, state, params, **extra_args)

      return automatic(
        run,
        ([given[n] for n in arrays], updates, state, params),
        like=(updates if params is None else params, state),
      )

    return optax.GradientTransformationExtraArgs(init, update)

  return make
