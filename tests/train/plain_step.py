"""Our step around a plain optax transform, to be compared with others'."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from flax import nnx

from normjax import build, objectives
from normjax.nn import model_roles
from normjax.nn import variables as nn_variables
from normjax.train import state as train_state
from normjax.train import step
from normjax.types import Array
from tests import support


def around(
  model: nnx.Module, tx: optax.GradientTransformation
) -> tuple[Any, Callable[[Any, Any], Any], Mapping[str, Array]]:
  """The first state, (state, batch) -> the next one, and the scalars.

  Cross-entropy, without a schedule, clipping or micro-batches.
  """
  structure, variables = nn_variables.split(model)
  config = support.tiny({"train.gradient_clip": 0.0, "train.z_loss": 0.0})
  recipe = step.Recipe(
    graphdef=structure,
    make_optimizer=lambda *_: tx,
    schedule=lambda *_: 1.0,
    make_objective=lambda _: objectives.make("cross_entropy"),
    accumulation_steps=1,
    probes=(),
    roles=model_roles.of(model),
  )
  hyper = build.hyper(config)
  compiled = jax.jit(lambda *given: step.train_step(recipe, *given)[0])
  first = train_state.create(variables, tx.init(variables["params"]))
  return first, lambda state, batch: compiled(state, batch, hyper), hyper
