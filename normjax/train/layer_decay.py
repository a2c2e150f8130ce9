"""Layer-wise learning-rate decay of a run: `train.layer_decay`.

`optim.decay_by_layer` is the method; here a config and the roles of its model
say what it needs.
"""

from collections.abc import Callable, Mapping
from typing import Any

from normjax import build, configure, errors, optim
from normjax.nn.model_roles import Roles
from normjax.optim import groups
from normjax.types import Array, Hyper, PyTree

PATH = "train.layer_decay"


def check(config: configure.ConfigDict) -> None:
  """Refuses an optimizer whose updates cannot be scaled by leaf.

  Raises:
    UserError: it puts matrices back to a norm.
  """
  decay, name = configure.optional(config, PATH), config.optimizer.name
  if decay != configure.OPTIONAL[PATH] and optim.keeps_norms(name):
    raise errors.UserError(
      f"{PATH}={decay!r}: optimizer {name!r} puts matrices back to a norm in"
      " its updates, and a part of one would miss it; allowed: 1.0."
    )


def make_optimizer(
  config: configure.ConfigDict, roles: Roles
) -> Callable[..., Any]:
  """`build.optimizer` of a config, with its decay by layer.

  Args:
    config: a resolved config.
    roles: of the model's parameters.

  Returns:
    (scalars, fraction of the peak learning rate = 1) -> optax transform.

  Raises:
    UserError: what `check` raises; a model without numbered layers.
  """
  check(config)
  layers = _layers(config, roles)

  def made(hyper: Hyper, fraction: Array | float = 1.0) -> Any:
    plain = build.optimizer(config, hyper, fraction, roles)
    if layers is None:
      return plain
    return optim.decay_by_layer(plain, hyper[PATH], layers)

  return made


def describe_updates(
  config: configure.ConfigDict, params: PyTree, roles: Roles
) -> Mapping[str, str]:
  """`build.describe_updates`, and what multiplies each update."""
  found = build.describe_updates(config, params, roles)
  layers = _layers(config, roles)
  if layers is None:
    return found
  rules = optim.layer_factors(configure.optional(config, PATH), layers)
  return {
    path: f"{name} x {groups.match(rules, path):.4g}"
    for path, name in found.items()
  }


def _layers(config: configure.ConfigDict, roles: Roles) -> list[str] | None:
  """The patterns of the layers; None: all are updated alike."""
  decay = configure.optional(config, PATH)
  if decay == configure.OPTIONAL[PATH]:
    return None
  return roles.layers(f"{PATH}={decay!r}")
