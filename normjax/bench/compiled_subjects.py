"""Programs of norms and optimizers, whose bytes `compiled` counts."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kernels_pallas.bench import passes
from normjax import norms, optim
from normjax.bench import leaves
from normjax.types import PyTree

# Rows of a language model, and a stage of a residual network.
SHAPES = ((8192, 4096), (64, 32, 32, 64))
LEARNING_RATE = 1e-3
# Also where no norm of images is: statistics of a batch, or of each position.
_OF_ANY_SHAPE = ("batch_norm", "batch_renorm", "layer_norm")


def fits(name: str, shape: tuple[int, ...]) -> bool:
  """Whether the norm is measured at the shape of x, rows or images."""
  of_images = norms.make(name).traits.mixes_positions
  if len(shape) == 4:
    return of_images or name in _OF_ANY_SHAPE
  return not of_images


def norm_passes(
  name: str, shape: tuple[int, ...], dtype: Any = jnp.bfloat16
) -> list[passes.Pass]:
  """Passes of a norm in training, with the gradients of all it has.

  Call it in the block of `aot.abstract`: what is traced decides.

  Args:
    name: of the norm, made with its defaults.
    shape: of x.
    dtype: of x.
  """
  norm = norms.make(name)
  features = shape[1:] if norm.traits.mixes_positions else shape[-1:]
  variables = jax.eval_shape(lambda: norm.init(features))
  fixed = {"stats": variables.pop("stats")}
  if name == "adain":
    style = jax.ShapeDtypeStruct((shape[0], shape[-1]), jnp.float32)
    fixed["context"] = (style, style)

  def apply(wrt, fixed):
    differentiated, x = wrt
    context = fixed.get("context")
    held = {**differentiated, "stats": fixed["stats"]}
    return norm.apply(held, x, train=True, context=context)

  x = jax.ShapeDtypeStruct(shape, dtype)
  return passes.differentiated(apply, (variables, x), fixed)


def llama_leaves(num_layers: int = 12) -> PyTree:
  """38 million parameters in 111 leaves, in 12 layers."""
  return leaves.llama(
    num_layers=num_layers, model_dim=512, hidden_dim=1368, vocab_size=256
  )


def update(name: str, shapes: PyTree) -> tuple[passes.Pass, int]:
  """One update of the parameters, in place, and its ideal bytes.

  Those are of parameters and state, read and written once, and of gradients,
  read once. Call it in the block of `aot.abstract`.
  """
  tx = optim.make(name, learning_rate=LEARNING_RATE)
  state = jax.eval_shape(tx.init, shapes)

  def function(params, state, gradients):
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state

  ideal = 3 * passes.size_bytes(shapes) + 2 * passes.size_bytes(state)
  arguments: Sequence[Any] = (shapes, state, shapes)
  return passes.Pass("update", function, tuple(arguments), (0, 1)), ideal
