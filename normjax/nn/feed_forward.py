"""The gated feed-forward branch of LLaMA."""

import jax
import jax.numpy as jnp
from flax import nnx

from normjax.nn.dropout import dropout
from normjax.types import Array


class SwiGLU(nnx.Module):
  """W_down (silu(W_gate x) * W_up x): Shazeer 2020, arXiv:2002.05202, eq. 6."""

  def __init__(
    self,
    model_dim: int,
    hidden_dim: int,
    *,
    dropout_rate: float = 0.0,
    out_std: float = 0.02,
    dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Makes the kernels; see `Attention` for the arguments."""
    self.dropout_rate = dropout_rate

    def linear(inputs: int, outputs: int, std: float) -> nnx.Linear:
      return nnx.Linear(
        inputs,
        outputs,
        use_bias=False,
        kernel_init=nnx.initializers.normal(std),
        dtype=dtype,
        rngs=rngs,
      )

    self.gate = linear(model_dim, hidden_dim, 0.02)
    self.up = linear(model_dim, hidden_dim, 0.02)
    self.down = linear(hidden_dim, model_dim, out_std)

  def __call__(self, x_btd: Array, *, key: Array | None = None) -> Array:
    """Applies the branch; `key` is for dropout, None turns it off."""
    hidden_btf = jax.nn.silu(self.gate(x_btd)) * self.up(x_btd)
    y_btd = dropout(self.down(hidden_btf), self.dropout_rate, key)
    self.sow(nnx.Intermediate, "output", y_btd, capture_noop=True)
    return y_btd
