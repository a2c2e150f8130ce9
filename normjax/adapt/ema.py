"""Running statistics that follow the stream.

The form is that of the baseline "norm_ema" in github.com/devavratTomar/unmixtns
(no licence; equations only).
"""

from typing import Literal

import jax.numpy as jnp
from flax import nnx

from normjax import validate
from normjax.adapt import base, sites
from normjax.nn import norm_sites
from normjax.nn.variables import split


def ema(
  model: nnx.Module,
  momentum: float | None = None,
  passes: Literal[1, 2] = 2,
) -> base.Adapter:
  """The running statistics take a training step, then the batch is predicted.

      running <- momentum * running + (1 - momentum) * batch

  Args:
    model: with batch_norm.
    momentum: weighs the old value; None: as each norm was trained.
    passes: 2, as in the official code: a forward pass as in training moves the
      statistics, a second one predicts. 1: each norm moves its own before it
      uses them, at half the cost; then what reaches the later norms has been
      normalised by the moved statistics, not by the batch's.

  Raises:
    UserError: an option out of range, or a model without batch_norm.
  """
  if momentum is not None:
    validate.number("ema", "momentum", momentum, least=0, most=1)
  validate.choice("ema", "passes", passes, (1, 2))

  def change(norm, variables):
    if momentum is not None:
      norm = sites.with_options(norm, momentum=momentum)
    return norm, variables

  def pin(**mode):
    return sites.pin("ema", model, needs="batch_norm", change=change, **mode)

  running = pin()
  if passes == 2:
    moving, _ = split(pin(statistics="batch", update=True))

    def step(structure, state, inputs):
      _, stats = base.predict(moving, state.variables, inputs)
      variables = {**state.variables, "stats": stats}
      return base.keeps_state(
        structure, state._replace(variables=variables), inputs
      )

    return base.adapter("ema", running, step)
  return base.adapter("ema", _moving_at_once(running), base.by_statistics)


def _moving_at_once(model: nnx.Module) -> nnx.Module:
  """Blended by the rate at which the statistics move: what they become."""
  for _, site in norm_sites.find(model):
    site.statistics, site.update = "blended", True
    rate = 1 - site.norm.options["momentum"]
    site.batch_weight = sites.BatchWeight(jnp.asarray(rate))
  return model
