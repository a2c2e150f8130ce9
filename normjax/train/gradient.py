"""What an optimizer is given: the gradient of a step, or an estimate of it.

`train.gradient` names one of `TABLE`, with options as in
"zeroth_order(num_directions=4)". The step (`train.step`) is the same with all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from normjax import configure, errors, procedures
from normjax.nn import variables as nn_variables
from normjax.nn.linear.base import Untrained
from normjax.registry import Registry
from normjax.train import param_dtype
from normjax.types import Array, PyTree

PATH, EPS = "train.gradient", "train.perturbation_eps"
TABLE = {
  "backpropagation": "normjax.train.gradient:backpropagation",
  "zeroth_order": "normjax.train.zeroth_order:zeroth_order",
}


class Estimate(NamedTuple):
  """What a step is made from.

  Attributes:
    gradients: of what is trained; leaves may be `leaf_by_leaf.Deferred`.
    stats: the new forward statistics.
    grad_stats: the new statistics of the backward pass.
    metrics: means of the objective, and probes.
    norm: of the gradients, for clipping, where it need not wait for all of
      them; None: it is computed from them.
    memory: that of the state, after it.
  """

  gradients: PyTree
  stats: PyTree
  grad_stats: PyTree
  metrics: dict[str, Array]
  norm: Array | None = None
  memory: PyTree = None


class Gradient(NamedTuple):
  """A way to a gradient.

  Attributes:
    estimate: (recipe, state, batch, hyper) -> Estimate; None: the step's own,
      by backpropagation.
    choose: (recipe, state, batch, hyper, step) -> by what the updates of the
      optimizer's step are multiplied; None: by nothing.
    check: raises UserError where it does not fit a recipe's model.
    reads_eps: whether it perturbs by `train.perturbation_eps`.
    num_forwards: a step's products, those of a forward pass being 1; a backward
      pass has each twice; without `num_choosing`. None where the options alone
      do not say it.
    num_choosing: those of `choose`, likewise.
    moves_apart: whether running statistics, where a model has some, take one
      forward pass more.
  """

  estimate: Callable[..., Estimate] | None = None
  choose: Callable[..., Array] | None = None
  check: Callable[[Any], None] = lambda recipe: None
  reads_eps: bool = False
  num_forwards: int | None = 3
  num_choosing: int = 0
  moves_apart: bool = False


REGISTRY = Registry("gradient", TABLE, makes=Gradient)


def has_statistics(structure: Any, variables: dict[str, PyTree]) -> bool:
  """Whether a call may move some; what is merely not trained it may not.

  Args:
    structure: of a model.
    variables: of it, or their shapes.
  """
  model = nn_variables.merge(structure, variables)
  untrained = jax.tree.leaves(nnx.state(model, Untrained))
  return len(jax.tree.leaves(variables["stats"])) > len(untrained)


def backpropagation() -> Gradient:
  """Reverse-mode differentiation of the objective."""
  return Gradient()


def of(config: configure.ConfigDict) -> Gradient:
  """What a config asks for.

  Raises:
    UserError: an unknown name or option; an eps that nothing reads; a procedure
      that has gradients of its own.
  """
  text, eps = (configure.optional(config, path) for path in (PATH, EPS))
  try:
    found = REGISTRY.resolve(text)
  except errors.UserError as error:
    raise type(error)(f"{PATH}={text!r}: {error}") from error
  if eps != configure.OPTIONAL[EPS] and not found.reads_eps:
    raise errors.UserError(
      f"{EPS}={eps!r}: {PATH}={text!r} does not read it; allowed:"
      f" {configure.OPTIONAL[EPS]!r}."
    )
  rounding = configure.optional(config, param_dtype.ROUNDING)
  if found.choose is not None and rounding == "kahan":
    raise errors.UserError(
      f"{PATH}={text!r}: an update that is not taken would be made up for by"
      f" {param_dtype.ROUNDING}='kahan'; allowed: 'stochastic', 'nearest'."
    )
  if found.estimate and any(p.learns for p in procedures.of(config)):
    raise errors.UserError(
      f"{PATH}={text!r}: a procedure of this config takes its gradients itself;"
      f" allowed: {configure.OPTIONAL[PATH]!r}."
    )
  return found


def notes(config: configure.ConfigDict) -> tuple[str, ...]:
  """What is to be said of clipping beside an estimate, if anything.

  Along a normal z the estimate g^T z z is about sqrt(n) |g| long.
  """
  clip = config.train.gradient_clip
  if of(config).estimate is None or not clip > 0:
    return ()
  return (
    f"train.gradient_clip={clip:g} beside"
    f" {PATH}={configure.optional(config, PATH)!r}: the estimate is about"
    " sqrt(number of parameters) times as long as the gradient, so that most"
    " steps are clipped, and the learning rate means another step."
    " train.gradient_clip=0 turns it off.",
  )
