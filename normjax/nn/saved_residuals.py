"""What a backward pass keeps, where autodiff or XLA would keep more.

Each function is another one with the same gradient, from residuals that a
barrier keeps XLA from replacing by what they were made from, or by a copy in
another layout. Reverse mode, and forward over reverse.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from normjax.types import Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def input_only(
  linear: Callable[[Array, Array], Array], x: Array, kernel: Array
) -> Array:
  """Returns linear(x, kernel), linear in both; keeps both and nothing else."""
  return linear(x, kernel)


def _input_only_backward(linear, residuals, dy):
  x, kernel = residuals
  x, dy = lax.optimization_barrier((x, dy))
  return jax.vjp(linear, x, kernel)[1](dy)


input_only.defvjp(
  lambda linear, x, kernel: (linear(x, kernel), (x, kernel)),
  _input_only_backward,
)


@jax.custom_vjp
def relu(x: Array) -> Array:
  """Returns y = max(x, 0); keeps y, which the next layer keeps too.

  dx = dy where y > 0, else 0.
  """
  return jax.nn.relu(x)


def _relu_backward(y, dy):
  y, dy = lax.optimization_barrier((y, dy))
  return (jnp.where(y > 0, dy, 0),)


relu.defvjp(lambda x: (jax.nn.relu(x),) * 2, _relu_backward)
