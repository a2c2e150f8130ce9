"""The leaves that optimizers are timed on: those of a LLaMA."""

import dataclasses

import jax
import jax.numpy as jnp
from optax import GradientTransformation

from normjax import optim
from normjax.optim import dims as dims_lib
from normjax.optim import groups
from normjax.types import PyTree


def llama(
  num_layers: int, model_dim: int, hidden_dim: int, vocab_size: int
) -> PyTree:
  """Shapes of a LLaMA's parameters, float32, named as in `models.llama`.

  An attention projection is one (d, d) matrix here, as in PyTorch.
  """

  def dense(*shape):
    return {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}

  def gain():
    return {"scale": jax.ShapeDtypeStruct((model_dim,), jnp.float32)}

  def layer():
    projections = ("query", "key", "value", "out")
    return {
      "attention": {name: dense(model_dim, model_dim) for name in projections},
      "attention_input_norm": gain(),
      "feed_forward": {
        "gate": dense(model_dim, hidden_dim),
        "up": dense(model_dim, hidden_dim),
        "down": dense(hidden_dim, model_dim),
      },
      "feed_forward_input_norm": gain(),
    }

  embedding = jax.ShapeDtypeStruct((vocab_size, model_dim), jnp.float32)
  return {
    "embedding": {"embedding": embedding},
    "layers": {str(index): layer() for index in range(num_layers)},
    "final_norm": gain(),
    "head": dense(model_dim, vocab_size),
  }


def state_bytes_per_entry(tx: GradientTransformation, shapes: PyTree) -> float:
  """Bytes of state for every entry of the hidden layers' matrices."""
  entries = dims_lib.resolve(None, shapes)
  alone = {
    path: leaf
    for (path, leaf), entry in zip(groups.leaves(shapes), entries, strict=True)
    if entry is not None
  }
  state = jax.eval_shape(tx.init, alone)
  return optim.state_bytes(state) / sum(leaf.size for leaf in alone.values())


def normal(shapes: PyTree, seed: int, std: float) -> PyTree:
  """Arrays of these shapes."""
  flat, structure = jax.tree.flatten(shapes)
  keys = jax.random.split(jax.random.key(seed), len(flat))
  return structure.unflatten(
    [
      std * jax.random.normal(key, leaf.shape, leaf.dtype)
      for key, leaf in zip(keys, flat, strict=True)
    ]
  )


@dataclasses.dataclass(frozen=True)
class TorchLeaf:
  """A leaf as PyTorch lays it out.

  Attributes:
    shape: (outputs, inputs) of a layer, (tokens, d) of an embedding.
    kind: "matrix" of a hidden layer, "embedding", or "other".
  """

  shape: tuple[int, ...]
  kind: str


def as_torch(shapes: PyTree) -> list[TorchLeaf]:
  """The same leaves for the peers."""
  hidden = dims_lib.resolve(None, shapes)
  channels = dims_lib.resolve(None, shapes, dims_lib.channel_dims)
  flat = []
  for (path, leaf), entry, channel in zip(
    groups.leaves(shapes), hidden, channels, strict=True
  ):
    shape = (
      leaf.shape
      if channel is None
      else dims_lib.sizes(leaf.shape, channel)[::-1]
    )
    kind = "other" if entry is None else "matrix"
    is_embedding = path.endswith("embedding")
    flat.append(TorchLeaf(shape, "embedding" if is_embedding else kind))
  return flat
