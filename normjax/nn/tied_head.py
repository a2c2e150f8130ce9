"""A head that may be the embedding's transpose."""

import jax.numpy as jnp
from flax import nnx

from normjax.nn import products


class HasTiedHead(nnx.Module):
  """A model with an `embedding` and, unless `tied_embeddings`, a `head`."""

  embedding: nnx.Embed
  tied_embeddings: bool

  def untie_head(self) -> None:
    """Makes the head a kernel of its own, the embedding's transpose at first.

    `normjax.convert` asks for it where the two are to differ.
    """
    if not self.tied_embeddings:
      return
    vocab_size, model_dim = self.embedding.embedding.shape
    dtype = self.embedding.dtype
    self.head = nnx.Linear(
      model_dim,
      vocab_size,
      use_bias=False,
      kernel_init=lambda *_: self.embedding.embedding[...].T,
      dtype=dtype,
      preferred_element_type=jnp.promote_types(dtype, jnp.float32),
      dot_general=products.dot_general,
      rngs=nnx.Rngs(0),
    )
    self.tied_embeddings = False
