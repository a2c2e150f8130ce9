"""What a procedure is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from normjax import configure
from normjax.metrics import Metric
from normjax.nn.variables import Structure
from normjax.types import Array, Hyper, PyTree


class Given(NamedTuple):
  """A step, as plain training has it.

  Attributes:
    structure: of the model.
    trained: the parameters that move.
    params_of: of `trained` makes all parameters.
    stats: of the norms.
    memory: what the procedure keeps from step to step.
    step: its number.
    batch: of the run's data.
    hyper: the run's scalars.
    num_classes: of the data.
  """

  structure: Structure
  trained: PyTree
  params_of: Callable[[PyTree], PyTree]
  stats: PyTree
  memory: PyTree
  step: Array
  batch: Mapping[str, Array]
  hyper: Hyper
  num_classes: int


class Learned(NamedTuple):
  """What plain training goes on with.

  Attributes:
    gradients: of `Given.trained`.
    stats: the new ones.
    logits: of the batch's examples, (b, c), before the step.
    minimized: whose gradient it is.
    memory: the new one.
  """

  gradients: PyTree
  stats: PyTree
  logits: Array
  minimized: Array
  memory: PyTree = None


class Evaluated(NamedTuple):
  """What was trained, and where.

  Attributes:
    structure: of the model.
    variables: that an evaluation reads, by collection; on one device.
    train: the data set that it was trained on.
    data: the one that it is evaluated on.
    seed: of the run.
    means: what this evaluation has measured, by name.
    earlier: the same of those before, by step, in order.
    is_last: whether the last step is done.
  """

  structure: Structure
  variables: dict[str, PyTree]
  train: Any
  data: Any
  seed: int
  means: Mapping[str, float]
  earlier: Mapping[int, Mapping[str, float]]
  is_last: bool


class Procedure:
  """One that changes nothing; others replace what they are about.

  Attributes:
    block: of the config, as "continual".
    config: the whole, resolved.
    learns: whether `gradients` are taken in place of plain training's.
  """

  learns = False

  def __init__(self, block: str, config: Mapping[str, Any]):
    """Reads the config; `check` says what is wrong with it.

    Args:
      block: see the class.
      config: see the class.
    """
    self.block, self.config = block, config

  def option(self, name: str) -> Any:
    """The value of a leaf of the block."""
    return configure.optional(self.config, f"{self.block}.{name}")

  def check(self, data: Any) -> None:
    """Raises UserError for a config that it cannot be done with.

    Args:
      data: the data set, as `view` has it.
    """
    del data

  def check_model(
    self,
    structure: Structure,
    variables: dict[str, PyTree],
    data: Any,
    num_devices: int,
  ) -> None:
    """Raises UserError for a model that it cannot be done with; in shapes.

    Args:
      structure: of the model.
      variables: in shapes.
      data: see `check`.
      num_devices: that the run takes.
    """
    del structure, variables, data, num_devices

  def view(self, data: Any) -> Any:
    """The data set as training and evaluation are to have it."""
    return data

  def metrics(self, data: Any) -> Sequence[Metric]:
    """What each evaluation measures beside the config's metrics."""
    del data
    return ()

  def stops(self) -> Sequence[int]:
    """Steps after which there is an evaluation, whatever the config says."""
    return ()

  def memory(self, data: Any) -> PyTree:
    """What is kept before the first step."""
    del data

  def gradients(self, given: Given) -> Learned:
    """What a step learns from; pure, and traced."""
    raise NotImplementedError(given)

  def facts(self, data: Any) -> Mapping[str, Any]:
    """What run.json says of it, beside the config."""
    del data
    return {}

  def columns(self, data: Any) -> Sequence[str]:
    """The names that `measure` gives after the last step."""
    del data
    return ()

  def measure(self, evaluated: Evaluated) -> Mapping[str, float]:
    """Numbers beside those of an evaluation, by name.

    Raises:
      KeyboardInterrupt: a signal came.
    """
    del evaluated
    return {}
