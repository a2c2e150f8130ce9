"""Layers that start again every so many steps: ReLoRA's merges.

A module with `restarts` and `restart(key)` is one, such as
`nn.linear.lora.LowRankUpdate`. After a step that is due it restarts, and what
the optimizer holds of its parameters is what it would start with: of moments
that is zero, of Dion's and SOAP's bases it is not, and from a basis of zeros
there is no way back. Or a share of each moment is set to zero, which is the
official code's way: `Restarts.reset`. As there (Guitaricet/relora at 176f376,
Apache-2.0), an optimizer's count of steps goes on.

With `schedule.name="cosine_restarts"` the official code merges a step later,
after one at a learning rate of zero. It moves no parameter; all that it
changes are the moments, by one gradient before they are reset.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from normjax import build, configure, errors, optim
from normjax.nn import variables as nn_variables
from normjax.nn.linear import restarting
from normjax.nn.linear.restarting import Restarts
from normjax.optim import groups
from normjax.train import average, frozen, param_dtype
from normjax.train.state import State
from normjax.types import Array, PyTree

__all__ = ["Restarts", "after_step", "check", "of"]


def of(
  config: configure.ConfigDict, structure: Any, shapes: dict[str, PyTree]
) -> Restarts | None:
  """When a model's layers restart; None: none of them does.

  Args:
    config: of the run.
    structure: of the model.
    shapes: of its variables.

  Raises:
    UserError: an average of weights beside restarts, or layers that differ.
  """
  if config.model.get("linear", "dense") == "dense":
    return None
  modules = _restarting(nn_variables.merge(structure, shapes))
  found = {module.restarts for _, module in modules}
  if not found:
    return None
  if len(found) > 1:
    raise errors.UserError(
      f"model.linear={config.model.linear!r}: layers restart every"
      f" {sorted(each.every for each in found)} steps; allowed: one number for"
      " all."
    )
  decay = configure.optional(config, average.DECAY)
  if decay:
    raise errors.UserError(
      f"{average.DECAY}={decay!r}: an average of factors from before and after"
      f" a restart of model.linear={config.model.linear!r} is that of no"
      " matrix; allowed: 0.0."
    )
  return found.pop()


def check(
  config: configure.ConfigDict, recipe: Any, shapes: dict[str, PyTree]
) -> None:
  """Refuses to prune what is no moment.

  Args:
    config: of the run.
    recipe: of its program.
    shapes: of the model's variables.

  Raises:
    UserError: the optimizer holds of a factor what is not of its shape, or no
      floats, as bases, codes and scales are; or what rounding left of it, or
      parameters to evaluate with.
  """
  found = recipe.layer_restarts
  if found is None or not found.prunes:
    return
  said = f"model.linear={config.model.linear!r} prunes moments"
  rounding = configure.optional(config, param_dtype.ROUNDING)
  if rounding == "kahan":
    raise errors.UserError(
      f"{said}, and {param_dtype.ROUNDING}='kahan' keeps what rounding left of"
      " factors that are drawn again; allowed: 'nearest', 'stochastic', or"
      " reset='start'."
    )
  state = jax.eval_shape(recipe.start, shapes, build.hyper(config))
  if _evaluates_elsewhere(state, recipe.trained):
    raise errors.UserError(
      f"{said}; optimizer {config.optimizer.name!r} holds parameters that it"
      " evaluates at, and these are none. Allowed with it: reset='start'."
    )
  params = dict(groups.leaves(state.params))
  places = _places(nn_variables.merge(recipe.graphdef, shapes))
  for path, leaf in groups.leaves(state.optimizer_state):
    place = groups.owner(path, places)
    if place and not _is_moment(leaf, params[place]):
      raise errors.UserError(
        f"{said}; optimizer {config.optimizer.name!r} holds {path} of shape"
        f" {leaf.shape} and dtype {leaf.dtype}, which is none. Allowed with it:"
        " reset='start'."
      )


def after_step(
  structure: Any,
  state: State,
  restarts: Restarts,
  key: Array,
  start: Callable[[PyTree], PyTree],
) -> State:
  """The state, with layers restarted where its step is one of those.

  Args:
    structure: of the model.
    state: after a step.
    restarts: what `of` gives.
    key: of what is drawn again.
    start: all parameters -> the state that an optimizer starts with.
  """
  return lax.cond(
    restarts.due(state.step),
    lambda state: _restarted(structure, state, restarts, key, start),
    lambda state: state,
    state,
  )


def _restarted(
  structure: Any,
  state: State,
  restarts: Restarts,
  key: Array,
  start: Callable[[PyTree], PyTree],
) -> State:
  wide = param_dtype.widen(state.params)
  model = nn_variables.merge(structure, {**state.variables(), "params": wide})
  places = _places(model)
  modules = _restarting(model)
  for n, (_, module) in enumerate(modules):
    module.restart(jax.random.fold_in(key, n))
  variables = nn_variables.split(model)[1]
  params = jax.tree.map(
    lambda new, old: new.astype(old.dtype), variables["params"], state.params
  )
  pruning = jax.random.fold_in(key, len(modules))
  held = []
  for n, ((path, leaf), new) in enumerate(
    zip(
      groups.leaves(state.optimizer_state),
      jax.tree.leaves(start(params)),
      strict=True,
    )
  ):
    if not groups.owner(path, places):
      held.append(leaf)
    elif restarts.prunes:
      held.append(_pruned(leaf, restarts, jax.random.fold_in(pruning, n)))
    else:
      held.append(new)
  return state._replace(
    params=params,
    stats=variables["stats"],
    optimizer_state=jax.tree.structure(state.optimizer_state).unflatten(held),
  )


def _pruned(moment: Array, restarts: Restarts, key: Array) -> Array:
  if restarts.reset == "magnitude":
    return restarting.prune_magnitude(moment, restarts.prune_ratio)
  uniform = jax.random.uniform(key, moment.shape)
  return restarting.prune_random(moment, restarts.prune_ratio, uniform)


def _evaluates_elsewhere(state: State, trained: frozen.Trained) -> bool:
  """Whether the optimizer's state has parameters, as schedule-free ones do.

  They have shapes and dtypes of moments.
  """
  found = []

  def look(state: State) -> None:
    params = frozen.select(state.params, trained)
    chosen = optim.evaluation_params(state.optimizer_state, params)
    found.append(chosen is not params)

  jax.eval_shape(look, state)
  return found[0]


def _is_moment(leaf: Any, param: Any) -> bool:
  is_float = jnp.issubdtype(leaf.dtype, jnp.inexact)
  return is_float and leaf.shape == param.shape


def _places(model: nnx.Module) -> set[str]:
  """Paths of the parameters of the layers that restart."""
  return {
    "/".join(map(str, (*path, *inner)))
    for path, module in _restarting(model)
    for inner, _ in nnx.to_flat_state(nnx.state(module, nnx.Param))
  }


def _restarting(model: nnx.Module) -> list[tuple[Any, Any]]:
  found = [
    (path, module)
    for path, module in nnx.iter_modules(model)
    if getattr(module, "restarts", None)
  ]
  return sorted(found, key=lambda item: str(item[0]))
