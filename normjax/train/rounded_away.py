"""Whether w + eps z, as a model's layers read it, is another number than w.

A number is rounded to itself by a step below half the distance to its
neighbours: in bfloat16 a weight of 0.5 or more by eps = 1e-3, of 0.03125 or
more by 1e-4. Both passes then read the same weight, and the slope does not see
it.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from normjax import configure
from normjax.nn.model_roles import Roles
from normjax.nn.roles import NORM_KINDS
from normjax.record import probes
from normjax.train import gradient
from normjax.types import PyTree

# Of the weights, from which on it is said.
SAID_SHARE = 0.1


def bound(eps: float, dtype: str) -> float:
  """The |w| from which on half the distance of neighbours is above eps."""
  return 2.0 ** (math.floor(math.log2(eps)) + jnp.finfo(dtype).nmant + 2)


def notes(
  config: configure.ConfigDict,
  roles: Roles,
  params: PyTree,
  on: Callable[..., Any] = jax.jit,
) -> tuple[str, ...]:
  """What is to be said of a run's eps; nothing where it moves the weights.

  Parameters of norms do not count: their layers compute in float32.

  Args:
    config: a resolved config.
    roles: of the parameters.
    params: as a run starts.
    on: compiles a function, so that this process can read what it gives.
  """
  if not gradient.of(config).reads_eps:
    return ()
  eps = configure.optional(config, gradient.EPS)
  dtype = config.train.precision
  least = bound(eps, dtype)
  leaves = [
    leaf
    for path, leaf in probes.named_leaves(params)
    if roles[path].kind not in NORM_KINDS
  ]

  def share(leaves: list[jax.Array]) -> jax.Array:
    large = [jnp.mean(jnp.abs(w) >= least) * w.size for w in leaves]
    return sum(large, jnp.zeros(())) / sum(w.size for w in leaves)

  if not leaves or float(on(share)(leaves)) < SAID_SHARE:
    return ()
  return (
    f"{gradient.EPS}={eps:g} is less than half the distance of neighbours of"
    f" weights from {least:g} on in train.precision={dtype!r}, which are"
    f" {SAID_SHARE:.0%} or more of those outside norms: passes read them mostly"
    " as they are. A larger eps moves them.",
  )
