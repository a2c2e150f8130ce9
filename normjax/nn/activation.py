"""Pointwise activations by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from normjax import validate
from normjax.nn import saved_residuals
from normjax.types import Array

Activation = Callable[[Array], Array]


def gelu_exact(x: Array) -> Array:
  """GELU, x Phi(x), with erf: Hendrycks, Gimpel 2016, arXiv:1606.08415."""
  return jax.nn.gelu(x, approximate=False)


def squared_relu(x: Array) -> Array:
  """max(x, 0)^2, of Primer: So et al. 2021, arXiv:2109.08668, section 3."""
  return jnp.square(jax.nn.relu(x))


ACTIVATIONS: dict[str, Activation] = {
  "relu": saved_residuals.relu,
  # The tanh form; the other is with erf.
  "gelu": jax.nn.gelu,
  "gelu_exact": gelu_exact,
  "silu": jax.nn.silu,
  "tanh": jnp.tanh,
  # Klambauer et al. 2017, arXiv:1706.02515, equation 2.
  "selu": jax.nn.selu,
  "elu": jax.nn.elu,
  "celu": jax.nn.celu,
  "leaky_relu": jax.nn.leaky_relu,
  "relu6": jax.nn.relu6,
  "squared_relu": squared_relu,
  "sigmoid": jax.nn.sigmoid,
  "log_sigmoid": jax.nn.log_sigmoid,
  "softplus": jax.nn.softplus,
  "soft_sign": jax.nn.soft_sign,
}


def resolve(name: str) -> Activation:
  """The activation of that name.

  Raises:
    UserError: there is none.
  """
  return validate.choose("activation", "activation", name, ACTIVATIONS)
