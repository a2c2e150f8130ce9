"""The stable embedding layer: Dettmers et al. 2022, arXiv:2110.02861."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from normjax import norms, validate
from normjax.nn import roles
from normjax.nn.norm_layer import NormLayer
from normjax.norms import modes
from normjax.types import Array

# With PyTorch's eps.
_LAYER_NORM = {"name": "layer_norm", "eps": 1e-5}


class StableEmbedding(nnx.Module):
  """An embedding with a norm after the lookup, for 8-bit optimizers.

      y = norm(embedding[token])

  arXiv:2110.02861, section 2.3: a uniform Xavier initialisation and a layer
  norm keep the gradient's extremes small. The third part is the optimizer's:
  the 8-bit ones of `normjax.optim` hold the state of a parameter called
  `embedding` in float32, by its path. As in bitsandbytes, the norm is computed
  in float32 and its result cast after. It changes the function, so that a
  checkpoint trained without the norm does not fit.
  """

  parameter_roles: ClassVar[roles.Declared] = {
    "embedding": roles.embedding("vocab", "embed"),
  }

  def __init__(
    self,
    num_embeddings: int,
    features: int,
    *,
    norm: norms.NormSpec = _LAYER_NORM,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Makes the variables.

    Args:
      num_embeddings: size of the vocabulary.
      features: size of an embedding.
      norm: a name, a mapping with "name", or a Norm; by default layer_norm with
        PyTorch's eps, 1e-5.
      dtype: of the output; None takes that of the embedding.
      param_dtype: of the embedding.
      rngs: the "params" stream draws the embedding.

    Raises:
      UserError: a bad size, an unknown norm or a bad option of it.
    """
    validate.counts(
      "stable_embedding", num_embeddings=num_embeddings, features=features
    )
    init = jax.nn.initializers.xavier_uniform()
    self.embedding = nnx.Param(
      init(rngs.params(), (num_embeddings, features), param_dtype)
    )
    self.norm = NormLayer(norm, (features,), rngs=rngs)
    self.dtype = param_dtype if dtype is None else dtype

  def __call__(self, tokens: Array, *, train: modes.Train = None) -> Array:
    """The normalised embeddings of the tokens.

    Args:
      tokens: integers, of any shape.
      train: see `NormLayer`.

    Returns:
      shape=(*tokens.shape, features).
    """
    x = jnp.take(self.embedding[...], tokens, axis=0).astype(jnp.float32)
    return self.norm(x, train=train).astype(self.dtype)
