"""The matrix itself."""

import jax.numpy as jnp
from flax import nnx

from normjax.nn import products
from normjax.nn.linear.base import Axes, Linear


def dense() -> Linear:
  """A kernel with an entry per input and output: Flax's layers."""
  return Linear("dense", _make, has_kernel=True)


def _make(
  inputs: Axes,
  outputs: Axes,
  *,
  use_bias: bool,
  kernel_init: nnx.Initializer,
  dtype: jnp.dtype,
  rngs: nnx.Rngs,
) -> nnx.Module:
  if isinstance(inputs, int) and isinstance(outputs, int):
    return nnx.Linear(
      inputs,
      outputs,
      use_bias=use_bias,
      kernel_init=kernel_init,
      dtype=dtype,
      dot_general=products.dot_general,
      rngs=rngs,
    )
  count = 1 if isinstance(inputs, int) else len(inputs)
  return nnx.LinearGeneral(
    inputs,
    outputs,
    axis=tuple(range(-count, 0)),
    use_bias=use_bias,
    kernel_init=kernel_init,
    dtype=dtype,
    rngs=rngs,
  )
