"""OSUDA: Liu et al. 2021, arXiv:2106.12497. Second-hand.

There is no official code, and the paper's equations could not be read: what is
here follows the abstract, and the form of each term is a reading of it. Its
identities are tested; do not quote it as the paper's.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors, validate
from normjax.adapt import affine, base, descent, pooled, sites
from normjax.nn import norm_sites
from normjax.types import Array, PyTree


class Own(NamedTuple):
  """What OSUDA keeps.

  Attributes:
    optimizer: its state.
    batches: that were seen.
    source: by path: where the parameters began.
  """

  optimizer: PyTree
  batches: Array
  source: dict[str, Array]


def osuda(
  model: nnx.Module,
  learning_rate: float = 1e-3,
  optimizer: Literal["adam", "sgd"] = "adam",
  momentum: float = 0.9,
  source_weight: float = 1.0,
  decay: float | Callable[[Array], Array] = 0.1,
  consistency: float = 1.0,
  freeze: str = "",
) -> base.Adapter:
  """Statistics move to the target, scale and bias stay near the source.

      w_k   = source_weight exp(-decay k),  k = 0, 1, … batches seen
      mean  = w_k mean_source + (1 - w_k) mean_batch,  var likewise
      d_c   = |mean_source / sqrt(var_source + eps)
               - mean_batch / sqrt(var_batch + eps)|
      loss  = mean_b H(softmax(logits_b))
              + consistency sum_c (1 + 1 / (1 + d_c)) |theta_c - source_c|

  over scale and bias of each batch norm, d a constant of the gradient: channels
  that transfer well are held more. The batch's variance is the unbiased one.
  The logits are those before the step.

  Args:
    model: with batch_norm.
    learning_rate: of the step.
    optimizer: "adam" or "sgd".
    momentum: as in `tent`.
    source_weight: w_0, in [0, 1].
    decay: per batch; or a function of k that takes the place of exp(-decay k).
      With 1 per batch, a literal reading, the source is gone after ten.
    consistency: the weight of the second term.
    freeze: see `affine.choose`.

  Raises:
    UserError: an option out of range, or a model without batch_norm.
  """
  descent.check("osuda", learning_rate, optimizer, momentum)
  validate.number("osuda", "source_weight", source_weight, least=0, most=1)
  validate.number("osuda", "consistency", consistency, least=0)
  if not callable(decay):
    validate.number("osuda", "decay", decay, least=0)

  pinned = sites.pin(
    "osuda",
    model,
    needs="batch_norm",
    change=pooled.pooled,
    statistics="blended",
    batch_weight=1 - source_weight,
    update=True,
  )
  eps = {
    path: site.norm.options["eps"] for path, site in norm_sites.find(pinned)
  }
  paths = affine.choose("osuda", pinned, freeze)
  if unknown := [p for p in paths if p.rpartition("/")[0] not in eps]:
    raise errors.UserError(
      "osuda holds scale and bias of batch_norm by their statistics;"
      f" {errors.few(unknown, 3)} belong to other norms: freeze them."
    )

  def own(variables, _):
    values = affine.of(variables["params"], paths)
    return Own(
      descent.first(optimizer, values), jnp.zeros((), jnp.int32), values
    )

  def step(structure, state, inputs):
    own, scalars, variables = state.own, state.scalars, state.variables
    fades = (
      decay if callable(decay) else lambda k: jnp.exp(-scalars["decay"] * k)
    )
    weight = 1 - scalars["source_weight"] * fades(own.batches)
    blended = {
      **variables,
      "stats": sites.with_weight(variables["stats"], weight),
    }

    def loss(values):
      params = affine.into(variables["params"], values)
      logits, batch = base.predict(
        structure, {**blended, "params": params}, inputs
      )
      held = _holds(variables["stats"], batch, eps)
      far = sum(
        jnp.sum(
          held[path.rpartition("/")[0]] * jnp.abs(value - own.source[path])
        )
        for path, value in values.items()
      )
      entropy = jnp.mean(descent.entropy(logits))
      return entropy + scalars["consistency"] * far, logits

    values = affine.of(variables["params"], paths)
    gradients, logits = jax.grad(loss, has_aux=True)(values)
    rule = descent.make(
      optimizer, scalars["learning_rate"], scalars["momentum"]
    )
    variables, moments = descent.moved(
      variables, gradients, rule, own.optimizer
    )
    own = own._replace(optimizer=moments, batches=own.batches + 1)
    return logits, state._replace(variables=variables, own=own)

  return base.adapter(
    "osuda",
    pinned,
    step,
    scalars={
      "learning_rate": learning_rate,
      "momentum": momentum,
      "source_weight": source_weight,
      "consistency": consistency,
      **({} if callable(decay) else {"decay": decay}),
    },
    own=own,
  )


def transferability(
  source: dict[str, Array], target: dict[str, Array], eps: float
) -> Array:
  """1 / (1 + d) per channel; see `osuda`."""
  ratios = [
    stats["mean"] / jnp.sqrt(stats["var"] + eps) for stats in (source, target)
  ]
  return 1 / (1 + jnp.abs(ratios[0] - ratios[1]))


def _holds(
  source: PyTree, batch: PyTree, eps: dict[str, float]
) -> dict[str, Array]:
  """1 + transferability, by the norm's path."""
  target = pooled.found(batch, "unbiased")
  of_source, of_batch = sites.by_site(source), sites.by_site(target)
  return {
    path: jax.lax.stop_gradient(
      1 + transferability(of_source[path], of_batch[path], value)
    )
    for path, value in eps.items()
  }
