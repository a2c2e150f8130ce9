"""Where the arrays of a program lie on the devices.

The only place that says replicated or split. A rule looks at the role of a
variable and at its shape, and names the axes of the mesh that split it:

    mesh                  batch            a parameter      a statistic
    data                  "data"           replicated       replicated
    data, fsdp, tensor    "data", "fsdp"   `layout_rules`   replicated

What an optimizer remembers lies as the optimizer says: its `init` is traced
with parameters that are split. Scalars and metrics are everywhere.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import (
  AbstractMesh,
  AxisType,
  Mesh,
  NamedSharding,
  PartitionSpec,
)

from kernels_pallas import dispatch
from normjax import build, configure, errors
from normjax.nn import stream_layout
from normjax.nn.linear import factor_layout
from normjax.nn.model_roles import Roles
from normjax.nn.roles import Role
from normjax.optim import whole_matrices
from normjax.train import frozen
from normjax.train.processes import distributed
from normjax.train.sharding import device_parts, layout_axes, layout_rules
from normjax.train.state import State
from normjax.train.step import Recipe
from normjax.types import Array, Hyper, PyTree


class Rules(NamedTuple):
  """Which axes of the mesh split what.

  Attributes:
    batch: those that together split the examples of a batch.
    variable: (path, role, shape) of a parameter or a statistic -> those that
      split it, by its axes.
  """

  batch: tuple[str, ...]
  variable: Callable[[str, Role, tuple[int, ...]], PartitionSpec]


def _replicate(path: str, role: Role, shape: tuple[int, ...]) -> PartitionSpec:
  del path, role, shape
  return PartitionSpec()


DATA_PARALLEL = Rules(batch=("data",), variable=_replicate)


@dataclasses.dataclass(frozen=True)
class Layout:
  """The devices of a program, and what lies where.

  Attributes:
    mesh: the devices, by axis.
    roles: of the model's variables, what `rules` decide by.
    rules: see `Rules`.
    init: parameters -> the optimizer's state, which it says the layout of.
    matrices: see `train.layout.matrices` of a config.
    batch_statistics: see `train.layout.batch_statistics`.
  """

  mesh: Mesh | AbstractMesh
  roles: Roles
  rules: Rules = DATA_PARALLEL
  init: Callable[[PyTree], PyTree] | None = None
  matrices: str = "auto"
  batch_statistics: str = "global"

  @property
  def everywhere(self) -> NamedSharding:
    """Every device holds the whole array: scalars and metrics."""
    return NamedSharding(self.mesh, PartitionSpec())

  @property
  def batch(self) -> NamedSharding:
    """Of every array of a batch."""
    return NamedSharding(self.mesh, PartitionSpec(self.rules.batch))

  @property
  def is_whole(self) -> bool:
    """Whether every device holds all of the state."""
    return self.rules.variable is _replicate

  @property
  def one_at_a_time(self) -> bool:
    """Whether a step must end before another is started.

    Two programs in flight that speak between CPU devices can starve each
    other of the host's threads and never end.
    """
    first = self.mesh.devices.flat[0]
    return self.mesh.size > 1 and first.platform == "cpu"

  def traced[**P, R](self, function: Callable[P, R]) -> Callable[P, R]:
    """The function, which will know where arrays lie."""

    @functools.wraps(function, updated=())
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
      with self._said():
        return function(*args, **kwargs)

    # What profiles call the program; a partial has no name.
    told.__name__ = getattr(function, "func", function).__name__
    return told

  @contextlib.contextmanager
  def _said(self) -> Iterator[None]:
    """Tells kernels, blocks and optimizers."""
    with contextlib.ExitStack() as said:
      said.enter_context(dispatch.rows_over(self.mesh, *self.rules.batch))
      if self.is_whole:
        said.enter_context(dispatch.whole_on(self.mesh))
      elif isinstance(self.mesh, Mesh):  # In shapes there is nothing to hold.
        said.enter_context(stream_layout.placed_by(self._hold))
        said.enter_context(factor_layout.gathered_by(self._gather))
      if self.matrices != "local" and (
        self.matrices == "distributed" or not self.is_whole
      ):
        said.enter_context(
          whole_matrices.over(self.mesh, cut=not self.is_whole)
        )
      if self.batch_statistics == "device":
        said.enter_context(device_parts.over(self.mesh, self.rules.batch))
      yield

  def _hold(self, x: Array) -> Array:
    """The stream of a batch, split as the batch is."""
    if x.shape[0] % self.batch_shards:
      return x
    return jax.lax.with_sharding_constraint(x, self.batch)

  def _gather(self, factor: Array) -> Array:
    """A factor of a matrix, whole on every device while it makes that."""
    return jax.lax.with_sharding_constraint(factor, self.everywhere)

  @property
  def batch_shards(self) -> int:
    """Into how many parts a batch is split."""
    return math.prod(self.mesh.shape[axis] for axis in self.rules.batch)

  def check_batch(self, key: str, size: int) -> None:
    """Every device must get the same number of examples.

    Args:
      key: of the config, for the message.
      size: examples of a batch.

    Raises:
      UserError: it does not come out even.
    """
    if size % self.batch_shards:
      raise errors.UserError(
        f"{key}={size} is not a multiple of the {self.batch_shards} devices in"
        " use; change it, or set train.num_devices."
      )

  def rows_here(self, size: int) -> distributed.Rows:
    """The examples of a batch that the devices of this process hold."""
    return distributed.rows_here(size, self.batch)

  def put_batch(
    self, batch: Mapping[str, Any], rows: distributed.Rows | None = None
  ) -> dict[str, jax.Array]:
    """The batch on the devices.

    Args:
      batch: examples, whole or `rows` of them.
      rows: of the batch; None: it is whole.
    """
    return distributed.put(dict(batch), self.batch, rows)

  def put_scalars(self, hyper: Hyper) -> Hyper:
    """The scalars on the devices."""
    return distributed.put(hyper, self.everywhere)

  def abstract_state(self, state: State) -> State:
    """The same shapes and dtypes, each with its sharding.

    Raises:
      UserError: an axis of the mesh that does not divide a parameter, or an
        optimizer that cannot be traced with split ones.
    """
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
      memory=abstract(state.memory, self.everywhere),
    )

  def _variables(self, tree: PyTree) -> PyTree:
    def place(path, leaf):
      name = name_of(path)
      spec = self.rules.variable(name, self.roles[name], leaf.shape)
      return abstract(leaf, NamedSharding(self.mesh, spec))

    return jax.tree_util.tree_map_with_path(place, tree)

  def _optimizer_state(self, tree: PyTree, params: PyTree) -> PyTree:
    """As the optimizer's `init` has it of parameters with explicit axes.

    It knows which axis of a factor, a basis or a block's scale is which of the
    parameter; what it does not say is whole on every device.
    """
    if self.is_whole or self.init is None:
      return abstract(tree, self.everywhere)
    mesh = self.mesh.abstract_mesh
    explicit = mesh.update(axis_types=(AxisType.Explicit,) * len(mesh.shape))

    def typed(leaf):
      sharding = NamedSharding(explicit, leaf.sharding.spec)
      return abstract(leaf, sharding)

    init, given = self.traced(self.init), jax.tree.map(typed, params)
    try:
      # Optax's `zeros_like` takes a sharding over from an argument only where
      # the mesh is known; where it is, fewer arrays go together.
      known = jax.sharding.use_abstract_mesh(explicit)
      with contextlib.suppress(Exception), known:
        return self._placed(tree, jax.eval_shape(init, given))
      said = jax.eval_shape(init, given)
    except errors.UserError:
      raise
    except Exception as error:  # What jax raises of such types is not public.
      first = str(error).partition("\n")[0]
      raise errors.UserError(
        "train.layout splits parameters, with which the optimizer's init cannot"
        f" be traced: {type(error).__name__}: {first}. Allowed: an init that"
        " makes its arrays like the parameters, or train.layout.fsdp=1 and"
        " train.layout.tensor=1."
      ) from error

    return self._placed(tree, said)

  def _placed(self, tree: PyTree, said: PyTree) -> PyTree:
    """The tree's shapes, each where another one's type says that it lies."""

    def place(leaf, like):
      spec = getattr(like.sharding, "spec", PartitionSpec())
      return abstract(leaf, NamedSharding(self.mesh, spec))

    return jax.tree.map(place, tree, said)


def create(
  config: configure.ConfigDict,
  recipe: Recipe,
  *,
  here: bool = True,
  devices: Sequence[Any] | None = None,
) -> Layout:
  """The layout that a config asks for.

  Args:
    config: of the run.
    recipe: of its program.
    here: whether on devices that there are; else in shapes, for as many as the
      config names.
    devices: those that there are; None: all of this machine, or of all hosts.

  Raises:
    UserError: more devices are asked for than there are, or an axis does not
      come out even.
  """
  asked = layout_axes.asked(config)
  found = jax.devices() if devices is None else devices
  sizes = asked.sizes(len(found) if here else asked.elsewhere(len(found)))
  if here and distributed.num_processes() > 1:
    _check_all(sizes, len(found))
  layout = data_parallel(sizes, recipe.roles, found if here else ())
  if len(sizes) > 1:
    least = configure.optional(config, "train.layout.min_size")
    layout = dataclasses.replace(
      layout,
      rules=Rules(
        layout_axes.of_batch(sizes), layout_rules.Splitting(sizes, least)
      ),
      init=lambda params: recipe.make_optimizer(build.hyper(config)).init(
        frozen.select(params, recipe.trained)
      ),
    )
  statistics = configure.optional(config, "train.layout.batch_statistics")
  if statistics == "device" and len(sizes) > 1:
    raise errors.UserError(
      "train.layout.batch_statistics='device' needs the whole model on every"
      " device: train.layout.fsdp=1 and train.layout.tensor=1; or 'global'."
    )
  return dataclasses.replace(
    layout,
    matrices=configure.optional(config, "train.layout.matrices"),
    batch_statistics=statistics,
  )


def _check_all(sizes: Mapping[str, int], count: int) -> None:
  """Raises UserError where a process would have no part in the mesh."""
  if math.prod(sizes.values()) != count:
    raise errors.UserError(
      f"the mesh {dict(sizes)} leaves devices out; in several processes it has"
      f" all {count}: set train.num_devices=0, or start fewer processes."
    )


def data_parallel(
  sizes: Mapping[str, int], roles: Roles, devices: Sequence[Any]
) -> Layout:
  """Every device has the whole model, and along "data" a part of the batch.

  Args:
    sizes: devices per axis of the mesh.
    roles: see `Layout`.
    devices: the first of them are used; none: a mesh in shapes.
  """
  shape, names = tuple(sizes.values()), tuple(sizes)
  if not devices:
    auto = (AxisType.Auto,) * len(names)  # As those of a mesh of devices.
    return Layout(AbstractMesh(shape, names, axis_types=auto), roles)
  used = np.array(devices[: math.prod(shape)]).reshape(shape)
  return Layout(Mesh(used, names), roles)


def abstract(tree: PyTree, sharding: NamedSharding) -> PyTree:
  """The shapes and dtypes of a tree, all of one sharding."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
  )


def name_of(path: tuple[Any, ...]) -> str:
  """Of a leaf: its keys, as a config or a message has them."""
  return jax.tree_util.keystr(path, simple=True, separator="/")
