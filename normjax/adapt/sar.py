"""SAR: Niu et al. 2023, arXiv:2302.12400.

Official code: github.com/mr-eggplant/SAR (BSD-3-Clause), whose sam.py is that
of github.com/davda54/sam (MIT).
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from normjax import validate
from normjax.adapt import affine, base, descent, sites
from normjax.types import Array, PyTree


class Own(NamedTuple):
  """What SAR keeps.

  Attributes:
    optimizer: its state.
    average: of the losses, a moving one; infinite before the first.
    num_resets: how often the model was set back.
    source: by path: where the parameters began.
  """

  optimizer: PyTree
  average: Array
  num_resets: Array
  source: dict[str, Array]


def sar(
  model: nnx.Module,
  learning_rate: float = 2.5e-4,
  optimizer: Literal["adam", "sgd"] = "sgd",
  momentum: float = 0.9,
  entropy_margin: float = 0.4,
  radius: float = 0.05,
  reset_below: float = 0.2,
  full_reset: bool = False,
  freeze: str = "top",
) -> base.Adapter:
  """Sharpness-aware descent on the entropy of sure examples, with a way back.

      S1 = {b: H_b(theta) < E0},    E0 = entropy_margin * log(classes)
      theta' = theta + radius * g / |g|,    g = grad mean_S1 H_b(theta)
      S2 = {b in S1: H_b(theta') < E0}
      theta <- step with grad mean_S2 H_b(theta') at theta'
      average <- 0.9 average + 0.1 mean_S2 H_b(theta')

  Where the average falls below `reset_below`, the model has collapsed and
  begins again. A batch without sure examples has a gradient of 0, and the
  momentum goes on. The logits are those at theta, before the step.

  Args:
    model: as `tent`; the paper adapts group and layer norm, too.
    learning_rate: 2.5e-4 is the official code's for ResNets, 1e-3 for ViT-B,
      both of batches of 64.
    optimizer: "adam" or "sgd".
    momentum: as in `tent`.
    entropy_margin: E0 as a share of log(classes).
    radius: rho of sharpness-aware minimization.
    reset_below: e_m; 0: never.
    full_reset: whether the average and the optimizer begin again, too. In the
      official code they do not: the model is set back at each batch until the
      average has risen, and the old momentum goes on with it.
    freeze: see `affine.choose`; "top" is the official code's: the last stage
      and the final norm stay.

  Raises:
    UserError: an option out of range, or nothing to adapt.
  """
  descent.check("sar", learning_rate, optimizer, momentum)
  validate.number("sar", "entropy_margin", entropy_margin, above=0)
  validate.number("sar", "radius", radius, least=0)
  validate.number("sar", "reset_below", reset_below, least=0)
  validate.flags("sar", full_reset=full_reset)
  pinned = sites.pin("sar", model, statistics="batch")
  paths = affine.choose("sar", pinned, freeze)

  def own(variables, _):
    values = affine.of(variables["params"], paths)
    return Own(
      descent.first(optimizer, values),
      jnp.asarray(jnp.inf),
      jnp.zeros((), jnp.int32),
      values,
    )

  def step(structure, state, inputs):
    own, scalars = state.own, state.scalars

    def sure(logits):
      h_n = descent.entropy(logits)
      share = scalars["entropy_margin"]
      return h_n, h_n < share * math.log(logits.shape[-1])

    def first(logits, _):
      h_n, s1 = sure(logits)
      return descent.mean_of(h_n, s1), s1

    def gradient(loss, at):
      return descent.gradient(
        structure, state.variables, inputs, paths, loss, at
      )

    values = affine.of(state.variables["params"], paths)
    gradients, logits, s1 = gradient(first, values)
    length = optax.tree.norm(gradients)
    away = scalars["radius"] / (length + 1e-12)
    near = jax.tree.map(
      lambda v, g: v + (away * g).astype(v.dtype), values, gradients
    )

    def second(logits, _):
      h_n, again = sure(logits)
      s2 = s1 & again
      value = descent.mean_of(h_n, s2)
      return value, (value, jnp.any(s2))

    gradients, _, (loss, some) = gradient(second, near)
    rule = descent.make(
      optimizer, scalars["learning_rate"], scalars["momentum"]
    )
    variables, moments = descent.moved(
      state.variables, gradients, rule, own.optimizer
    )
    is_first = jnp.isinf(own.average)
    average = jnp.where(is_first, loss, 0.9 * own.average + (1 - 0.9) * loss)
    average = jnp.where(some, average, own.average)
    is_lost = average < scalars["reset_below"]
    params = affine.into(variables["params"], own.source)
    variables = descent.where(
      is_lost, {**variables, "params": params}, variables
    )
    if full_reset:
      average = jnp.where(is_lost, jnp.inf, average)
      begun = descent.first(optimizer, own.source)
      moments = descent.where(is_lost, begun, moments)
    own = own._replace(
      optimizer=moments,
      average=average.astype(own.average.dtype),
      num_resets=own.num_resets + is_lost,
    )
    return logits, state._replace(variables=variables, own=own)

  return base.adapter(
    "sar",
    pinned,
    step,
    scalars={
      "learning_rate": learning_rate,
      "momentum": momentum,
      "entropy_margin": entropy_margin,
      "radius": radius,
      "reset_below": reset_below,
    },
    own=own,
  )
