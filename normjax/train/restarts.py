"""Layers that start again every so many steps: ReLoRA's merges.

A module with `restart_every` > 0 and `restart(key)` is one, such as
`nn.linear.lora.LowRankUpdate`. After such a step it restarts, and what the
optimizer holds of its parameters is what it would start with: of moments that
is zero, of Dion's and SOAP's bases it is not, and from a basis of zeros there
is no way back. As in the official code, Guitaricet/relora (Apache-2.0), an
optimizer's count of steps goes on. There 99.9 % of the moments are set to zero,
drawn at random, to mean all.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax import lax

from normjax import configure, errors
from normjax.nn import variables as nn_variables
from normjax.optim import groups
from normjax.train import average, param_dtype
from normjax.train.state import State
from normjax.types import Array, PyTree


def every(
  config: configure.ConfigDict, structure: Any, shapes: dict[str, PyTree]
) -> int:
  """Steps between restarts of a model's layers; 0: none of them restarts.

  Args:
    config: of the run.
    structure: of the model.
    shapes: of its variables.

  Raises:
    UserError: an average of weights beside restarts, or layers that differ.
  """
  if config.model.get("linear", "dense") == "dense":
    return 0
  modules = _restarting(nn_variables.merge(structure, shapes))
  found = {module.restart_every for _, module in modules}
  if not found:
    return 0
  if len(found) > 1:
    raise errors.UserError(
      f"model.linear={config.model.linear!r}: layers restart every"
      f" {sorted(found)} steps; allowed: one number for all."
    )
  decay = configure.optional(config, average.DECAY)
  if decay:
    raise errors.UserError(
      f"{average.DECAY}={decay!r}: an average of factors from before and after"
      f" a restart of model.linear={config.model.linear!r} is that of no"
      " matrix; allowed: 0.0."
    )
  return found.pop()


def after_step(
  structure: Any,
  state: State,
  restart_every: int,
  key: Array,
  start: Callable[[PyTree], PyTree],
) -> State:
  """The state, with layers restarted where its step is one of those.

  Args:
    structure: of the model.
    state: after a step.
    restart_every: what `every` gives, above 0.
    key: of what is drawn again.
    start: all parameters -> the state that an optimizer starts with.
  """
  return lax.cond(
    state.step % restart_every == 0,
    lambda state: _restarted(structure, state, key, start),
    lambda state: state,
    state,
  )


def _restarted(
  structure: Any, state: State, key: Array, start: Callable[[PyTree], PyTree]
) -> State:
  wide = param_dtype.widen(state.params)
  model = nn_variables.merge(structure, {**state.variables(), "params": wide})
  places = []
  for n, (path, module) in enumerate(_restarting(model)):
    module.restart(jax.random.fold_in(key, n))
    place = "/".join(map(str, path))
    own = nnx.to_flat_state(nnx.state(module, nnx.Param))
    places += ["/".join((place, *map(str, inner))) for inner, _ in own]
  variables = nn_variables.split(model)[1]
  params = jax.tree.map(
    lambda new, old: new.astype(old.dtype), variables["params"], state.params
  )
  held = [
    new if any(f"/{path}".endswith(f"/{place}") for place in places) else leaf
    for (path, leaf), new in zip(
      groups.leaves(state.optimizer_state),
      jax.tree.leaves(start(params)),
      strict=True,
    )
  ]
  return state._replace(
    params=params,
    stats=variables["stats"],
    optimizer_state=jax.tree.structure(state.optimizer_state).unflatten(held),
  )


def _restarting(model: nnx.Module) -> list[tuple[Any, Any]]:
  found = [
    (path, module)
    for path, module in nnx.iter_modules(model)
    if getattr(module, "restart_every", 0)
  ]
  return sorted(found, key=lambda item: str(item[0]))
