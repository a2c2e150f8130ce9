"""Squeeze and excitation: Hu et al. 2017, arXiv:1709.01507."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import validate
from normjax.nn import checks
from normjax.types import Array


class SqueezeExcite(nnx.Module):
  """A gate for each channel, from the means of all channels.

      gate = sigmoid(W_2 relu(W_1 mean_yx(x) + b_1) + b_2)

  arXiv:1709.01507, equations 2 and 3, with biases. The mean is float32.
  """

  def __init__(
    self,
    channels: int,
    *,
    ratio: float = 0.25,
    dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Makes both layers.

    Args:
      channels: of x and of the gate.
      ratio: hidden features over channels, rounded down to at least 1.
      dtype: of the computation; parameters are float32.
      rngs: stream "params".

    Raises:
      UserError: a ratio that is not positive.
    """
    validate.positive("squeeze_excite", se_ratio=ratio)
    hidden = max(1, int(channels * ratio))
    self.squeeze, self.excite = (
      nnx.Linear(
        inputs,
        outputs,
        # Haiku's default for linear layers.
        kernel_init=nnx.initializers.truncated_normal(1 / math.sqrt(inputs)),
        dtype=dtype,
        rngs=rngs,
      )
      for inputs, outputs in ((channels, hidden), (hidden, channels))
    )

  def __call__(self, x_byxc: Array) -> Array:
    """The gate, (b, 1, 1, c), in (0, 1)."""
    wide = checks.logits_dtype(x_byxc.dtype)
    mean_bc = jnp.mean(x_byxc, axis=(1, 2), dtype=wide)
    hidden_bf = jax.nn.relu(self.squeeze(mean_bc))
    return jax.nn.sigmoid(self.excite(hidden_bf))[:, None, None]
