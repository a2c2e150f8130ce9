"""Where the arrays of a program lie on the devices.

The only place that says replicated or split. A rule looks at the role of a
variable and at its shape, and names the axes of the mesh that split it:

    rules                batch         a parameter or statistic
    DATA_PARALLEL        "data"        replicated

The optimizer's state follows its parameter; scalars and metrics are
everywhere.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from kernels_pallas import dispatch
from normjax import errors
from normjax.nn.model_roles import Roles
from normjax.nn.roles import Role
from normjax.train.state import State
from normjax.types import Hyper, PyTree


class Rules(NamedTuple):
  """Which axes of the mesh split what.

  Attributes:
    batch: the one that splits the examples of a batch.
    variable: (role, shape) of a parameter or a statistic -> those that split
      it, by its axes.
  """

  batch: str
  variable: Callable[[Role, tuple[int, ...]], PartitionSpec]


def _replicate(role: Role, shape: tuple[int, ...]) -> PartitionSpec:
  del role, shape
  return PartitionSpec()


DATA_PARALLEL = Rules(batch="data", variable=_replicate)


@dataclasses.dataclass(frozen=True)
class Layout:
  """The devices of a program, and what lies where.

  Attributes:
    mesh: the devices, by axis.
    roles: of the model's variables, what `rules` decide by.
    rules: see `Rules`.
  """

  mesh: Mesh
  roles: Roles
  rules: Rules = DATA_PARALLEL

  @property
  def everywhere(self) -> NamedSharding:
    """Every device holds the whole array: scalars and metrics."""
    return NamedSharding(self.mesh, PartitionSpec())

  @property
  def batch(self) -> NamedSharding:
    """Of every array of a batch."""
    return NamedSharding(self.mesh, PartitionSpec(self.rules.batch))

  @property
  def one_at_a_time(self) -> bool:
    """Whether a step must end before another is started.

    Two programs in flight that speak between CPU devices can starve each
    other of the host's threads and never end.
    """
    first = self.mesh.devices.flat[0]
    return self.mesh.size > 1 and first.platform == "cpu"

  def traced[**P, R](self, function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose kernels will know where arrays lie."""
    return _told(function, self.mesh, self.rules)

  def check_batch(self, key: str, size: int) -> None:
    """Every device must get the same number of examples.

    Args:
      key: of the config, for the message.
      size: examples of a batch.

    Raises:
      UserError: it does not come out even.
    """
    devices = self.mesh.shape[self.rules.batch]
    if size % devices:
      raise errors.UserError(
        f"{key}={size} is not a multiple of the {devices} devices in use;"
        " change it, or set train.num_devices."
      )

  def put_batch(self, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The batch on the devices."""
    return jax.device_put(dict(batch), self.batch)

  def put_scalars(self, hyper: Hyper) -> Hyper:
    """The scalars on the devices."""
    return jax.device_put(hyper, self.everywhere)

  def abstract_state(self, state: State) -> State:
    """The same shapes and dtypes, each with its sharding."""
    variables = {
      collection: self._variables(tree)
      for collection, tree in state.variables().items()
    }
    return State(
      step=abstract(state.step, self.everywhere),
      **variables,
      optimizer_state=self._optimizer_state(
        state.optimizer_state, variables["params"]
      ),
      diverged_at=abstract(state.diverged_at, self.everywhere),
      average=state.average
      and {name: self._variables(x) for name, x in state.average.items()},
    )

  def _variables(self, tree: PyTree) -> PyTree:
    def place(path, leaf):
      spec = self.rules.variable(self.roles[_name(path)], leaf.shape)
      return abstract(leaf, NamedSharding(self.mesh, spec))

    return jax.tree_util.tree_map_with_path(place, tree)

  def _optimizer_state(self, tree: PyTree, params: PyTree) -> PyTree:
    """What has a parameter's name and shape lies where the parameter does."""
    placed = {
      (_name(path), leaf.shape): leaf.sharding
      for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }

    def place(path, leaf):
      ends = (_name(path[start:]) for start in range(len(path)))
      found = (placed.get((end, leaf.shape)) for end in ends)
      return abstract(leaf, next(filter(None, found), self.everywhere))

    return jax.tree_util.tree_map_with_path(place, tree)


def create(num_devices: int, roles: Roles) -> Layout:
  """Data parallelism over a one-axis mesh named "data".

  Args:
    num_devices: how many; 0 takes all there are.
    roles: see `Layout`.

  Raises:
    UserError: more are asked for than there are.
  """
  devices = jax.devices()
  if not 0 <= num_devices <= len(devices):
    raise errors.UserError(
      f"train.num_devices={num_devices}; allowed: 0 (all) to {len(devices)},"
      " the devices that jax sees here."
    )
  used = np.array(devices[: num_devices or None])
  return Layout(Mesh(used, (DATA_PARALLEL.batch,)), roles)


def traced_in_shapes[**P, R](
  function: Callable[P, R], num_devices: int
) -> Callable[P, R]:
  """As `Layout.traced`, for shapes that are on no devices.

  Args:
    function: traced only.
    num_devices: see `create`; there need not be as many here.
  """
  size = num_devices or jax.device_count()
  mesh = AbstractMesh((size,), (DATA_PARALLEL.batch,))
  return _told(function, mesh, DATA_PARALLEL)


def _told[**P, R](
  function: Callable[P, R], mesh: Mesh | AbstractMesh, rules: Rules
) -> Callable[P, R]:
  @functools.wraps(function, updated=())
  def told(*args: P.args, **kwargs: P.kwargs) -> R:
    with contextlib.ExitStack() as said:
      said.enter_context(dispatch.rows_over(mesh, rules.batch))
      if rules.variable is _replicate:
        said.enter_context(dispatch.whole_on(mesh))
      return function(*args, **kwargs)

  # What profiles call the program; a partial has no name.
  told.__name__ = getattr(function, "func", function).__name__
  return told


def abstract(tree: PyTree, sharding: NamedSharding) -> PyTree:
  """The shapes and dtypes of a tree, all of one sharding."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
  )


def _name(path: tuple[Any, ...]) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")
