"""A linear map whose kernel may have a norm."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from normjax.nn.weight_norm_layer import layer_or_none
from normjax.norms import modes, weights
from normjax.types import Array


class Dense(nnx.Linear):
  """y = x kernel + bias, as nnx.Linear; the kernel is (inputs, outputs)."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    *,
    weight_norm: weights.WeightNormSpec | None = None,
    rngs: nnx.Rngs,
    **options: Any,
  ):
    """Makes the kernel.

    Args:
      inputs: on the last axis of x.
      outputs: on the last axis of y.
      weight_norm: of the kernel, by name, mapping or itself; None: none.
      rngs: stream "params".
      **options: of nnx.Linear.
    """
    super().__init__(inputs, outputs, rngs=rngs, **options)
    self.weight_norm = layer_or_none(weight_norm, self.kernel[...], rngs)

  def __call__(self, x: Array, *, train: modes.Train = None) -> Array:
    """Multiplies; `train` is for norms of the kernel."""
    modes.resolve(train, self)
    if self.weight_norm is None:
      return super().__call__(x)
    kernel = self.weight_norm(self.kernel[...], train=train)
    bias = None if self.bias is None else self.bias[...]
    x, kernel, bias = self.promote_dtype((x, kernel, bias), dtype=self.dtype)
    y = jnp.matmul(
      x,
      kernel,
      precision=self.precision,
      preferred_element_type=self.preferred_element_type,
    )
    return y if bias is None else y + bias
