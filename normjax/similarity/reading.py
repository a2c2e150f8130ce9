"""The embeddings of a model: what its head compares."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from normjax import errors, validate
from normjax.nn import calling
from normjax.nn import variables as nn_variables
from normjax.nn.output import as_output
from normjax.types import Array

__all__ = ["embeddings"]


class _Pass(nnx.Module):
  """In a linear head's place: the features that it would read."""

  def __call__(self, x: Array) -> Array:
    return x


def embeddings(
  model: nnx.Module, inputs: Any, *, batch_size: int = 256
) -> np.ndarray:
  """What the head of a model compares, of each example; (n, e), float32.

  Of a head with class vectors the feature "embedding" (`similarity.heads`), of
  a linear one the features that it reads. The model is evaluated, a batch at a
  time, and stays as it is.

  Args:
    model: an nnx.Module with an attribute `head`.
    inputs: (n, ...), as the model reads them.
    batch_size: examples at a time.

  Raises:
    UserError: a model without a head, or no example.
  """
  validate.counts("embeddings", batch_size=batch_size)
  if not hasattr(model, "head"):
    raise errors.UserError(
      f"the model, a {type(model).__name__}, has no attribute 'head', of which"
      " the embeddings are; allowed: mlp, cifar_resnet, resnet, vit, or a"
      " module of your own with one."
    )
  inputs = np.asarray(inputs)
  if not len(inputs):
    raise errors.UserError("inputs: no example; allowed: one or more.")
  twin: Any = nn_variables.merge(*nn_variables.split(model))
  if isinstance(twin.head, nnx.Linear):
    twin.head = _Pass()
  structure, variables = nn_variables.split(twin)

  @jax.jit
  def embed(variables, inputs):
    module = nn_variables.merge(structure, variables)
    output = as_output(calling.call(module, inputs, train=False, key=None))
    found = output.features.get("embedding", output.logits)
    return found.astype(jnp.float32)

  short = -len(inputs) % min(batch_size, len(inputs))
  # The last batch is filled up, so that one program does.
  filled = np.concatenate([inputs, np.repeat(inputs[-1:], short, axis=0)])
  parts = np.split(filled, len(filled) // min(batch_size, len(inputs)))
  found = [np.asarray(embed(variables, part)) for part in parts]
  return np.concatenate(found)[: len(inputs)]
