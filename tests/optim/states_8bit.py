"""What tests of 8-bit states share: drawn leaves, and what is held."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from normjax import optim


def quantized(state):
  """The leaves that are held in 8 bits, in order."""

  def stored(node):
    return isinstance(node, optim.Quantized)

  def masked(node):
    return isinstance(node, optax.MaskedNode)

  fields = [x for x in jax.tree.leaves(state, is_leaf=stored) if stored(x)]
  return [
    optim.Quantized(codes, absmax)
    for field in fields
    for codes, absmax in zip(
      *(jax.tree.leaves(tree, is_leaf=masked) for tree in field), strict=True
    )
    if not masked(absmax)
  ]


def draw(shape, steps=12):
  """Weights, and gradients of very different sizes within a block."""
  rng = np.random.default_rng(0)
  w = rng.normal(size=shape).astype(np.float32)
  scale = np.exp(2 * rng.normal(size=shape))
  return w, (rng.normal(size=(steps, *shape)) * scale).astype(np.float32)


def tree():
  """Leaves on both sides of every rule."""
  return {
    "embed": {"embedding": jnp.ones((64, 128))},
    "mlp": {"kernel": jnp.ones((64, 64)), "bias": jnp.ones(64)},
    "large": {"bias": jnp.ones(8192)},
    "small": {"kernel": jnp.ones((64, 63))},
    "thin": {"kernel": jnp.ones((8192, 2))},
  }
