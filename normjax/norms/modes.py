"""What a call of a norm, a layer or a model does: the argument `train`.

Importing this module must not import jax, as `normjax.norms.base`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from normjax import errors

if TYPE_CHECKING:
  from normjax.types import Array

Statistics = Literal["batch", "running", "blended"]
STATISTICS: tuple[Statistics, ...] = ("batch", "running", "blended")


@dataclasses.dataclass(frozen=True)
class Mode:
  """What training and evaluation differ in, one thing at a time.

  Without arguments it is evaluation. What has no dropout, or no running
  statistics, does not read what is said about them.

  Attributes:
    noise: whether dropout and stochastic depth are on.
    statistics: which ones y is made with. "batch": as in training; "running":
      as in evaluation; "blended": as in evaluation, with each running
      statistic s replaced by (1 - batch_weight) s + batch_weight s_batch, where
      s_batch is what training would average into s. With the mean and the
      unbiased variance that is alpha-BN. Gradients pass s_batch, unless a norm
      has none there in training either (bcn, estimated).
    update: whether running statistics, and those of the backward pass, move as
      in training. y does not depend on it.
    batch_weight: of "blended" alone: in [0, 1], or a scalar array, with which
      a mode is not hashable.

  Raises:
    UserError: a value that is not allowed.
  """

  noise: bool = False
  statistics: Statistics = "running"
  update: bool = False
  batch_weight: float | Array | None = None

  def __post_init__(self) -> None:
    """Checks the values."""
    for name in ("noise", "update"):
      if not isinstance(getattr(self, name), bool):
        raise errors.UserError(
          f"Mode: {name} must be True or False; got {getattr(self, name)!r}."
        )
    if (
      not isinstance(self.statistics, str) or self.statistics not in STATISTICS
    ):
      raise errors.UserError(
        f"Mode: statistics must be one of {', '.join(map(repr, STATISTICS))};"
        f" got {self.statistics!r}."
      )
    blended = self.statistics == "blended"
    if blended and not _is_weight(self.batch_weight):
      raise errors.UserError(
        "Mode: statistics='blended' needs batch_weight, the share of this"
        f" batch, from 0 to 1; got {self.batch_weight!r}."
      )
    if not blended and self.batch_weight is not None:
      raise errors.UserError(
        f"Mode: batch_weight={self.batch_weight!r} is for"
        f" statistics='blended'; got statistics={self.statistics!r}."
      )


TRAIN = Mode(noise=True, statistics="batch", update=True)
EVALUATE = Mode()
# What the argument `train` takes; None is read by `resolve`.
Train = bool | Mode | None


def resolve(train: Train, module: Any = None) -> Mode:
  """The mode that an argument `train` means: the one place that reads it.

  Args:
    train: True for `TRAIN`, False for `EVALUATE`, a mode for itself. None for
      what `nnx.Module.train()` and `eval()` set: the module's `deterministic`
      says whether noise is off, its `use_running_average` whether statistics
      are the running ones and stay. A module that neither was called on, and
      a function, which has no module, train.
    module: whose call it is.

  Raises:
    UserError: anything else.
  """
  if isinstance(train, Mode):
    return train
  if train is None:
    running = getattr(module, "use_running_average", False)
    return Mode(
      noise=not getattr(module, "deterministic", False),
      statistics="running" if running else "batch",
      update=not running,
    )
  if isinstance(train, bool):
    return TRAIN if train else EVALUATE
  raise errors.UserError(
    "train must be True, False, a normjax.norms.Mode, or None for what"
    f" model.train() or model.eval() said; got {train!r}."
  )


Variables = Mapping[str, Mapping[str, Any]]


def carry_out(
  function: Callable[[Variables, Mode], tuple[Array, Mapping[str, Any]]],
  variables: Variables,
  mode: Mode,
) -> tuple[Array, Mapping[str, Any]]:
  """A call of a method in a mode: (its output, the new statistics).

  Args:
    function: makes the output with the statistics that the mode asks for. With
      those of the batch it also returns the statistics after a training step,
      else anything. It does not read `update`.
    variables: with "stats", and "grad_stats" where the method may have some.
    mode: what is to be done.
  """
  trains = mode.statistics == "batch" and mode.update
  backward = variables.get("grad_stats")
  if trains or not backward:
    y, advanced = function(variables, mode)
  else:
    y, advanced = _without_backward_step(function, variables, mode)
  if not mode.update:
    return y, variables["stats"]
  if not trains:
    # Of this call the statistics alone are used.
    batch = dataclasses.replace(mode, statistics="batch", batch_weight=None)
    _, advanced = function(variables, batch)
  return y, advanced


def _without_backward_step(function, variables, mode):
  """The call, where the statistics of the backward pass stay."""
  from jax import lax  # Not above: see the module's docstring.

  from normjax.norms import batch_power

  grad_stats = variables["grad_stats"]
  constant = {**variables, "grad_stats": lax.stop_gradient(dict(grad_stats))}
  y, advanced = function(constant, mode)
  return batch_power.keep_grad_stats(y, grad_stats), advanced


def _is_weight(value: Any) -> bool:
  if isinstance(value, bool):
    return False
  if isinstance(value, int | float):
    return 0 <= value <= 1
  if getattr(value, "shape", None) != ():
    return False
  import jax.numpy as jnp  # Not above: see the module's docstring.
  from jax.core import Tracer

  if not any(
    jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer)
  ):
    return False
  # What is traced has no value yet.
  return isinstance(value, Tracer) or bool(0 <= value <= 1)
