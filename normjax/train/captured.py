"""What is inside a model while it is called: what its layers sow."""

from typing import Any

import jax
from flax import nnx

from normjax.nn import calling
from normjax.nn import variables as nn_variables
from normjax.norms import modes
from normjax.record import probes
from normjax.types import Array, PyTree


def activations(
  model: nnx.Module,
  inputs: Array,
  key: Array | None,
  *,
  train: bool | modes.Mode = True,
) -> tuple[Any, PyTree]:
  """(what the model returns, what its layers sow, by path)."""
  returned, intermediates = nnx.capture(
    lambda model: calling.call(model, inputs, train=train, key=key),
    nnx.Intermediate,
  )(model)
  return returned, nnx.to_pure_dict(intermediates)


def asked(
  recipe: Any, variables: PyTree, inputs: Array, key: Array | None
) -> bool:
  """Whether a probe chooses an activation; else layers may stay scanned."""
  if not recipe.probes:
    return False

  def sown(variables, inputs, key):
    model = nn_variables.merge(recipe.graphdef, variables, key)
    return activations(model, inputs, key)[1]

  shapes = jax.eval_shape(sown, variables, inputs, key)
  return probes.any_chosen("activation", shapes, recipe.probes)
