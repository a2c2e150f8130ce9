"""A gain and an offset that depend on an example's condition.

    gain = scale + f(s) gain_kernel,    offset = bias + f(s) shift_kernel

s describes the condition: `domains.features`. f is the identity, or one hidden
layer, relu(s hidden_kernel + hidden_bias). The last kernels start at 0, so that
at first nothing depends on the condition. Of an id the first kernel is a table
with a row for each domain, which is no matrix to an optimizer.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from normjax.norms import affine, base, domains
from normjax.types import Array


def init(
  shape: tuple[int, ...],
  dtype: DTypeLike,
  *,
  num_domains: int,
  hidden_dim: int,
  key: Array | None = None,
  **_: Any,
) -> dict[str, Array]:
  """The parameters; `hidden_kernel` is drawn from N(0, 2 / num_domains).

  Args:
    shape: the feature shape.
    dtype: of the parameters.
    num_domains: the length of s.
    hidden_dim: of the hidden layer; 0: none.
    key: of the draw; read where there is a hidden layer.
  """
  params = affine.init(shape, dtype)
  if hidden_dim:
    assert key is not None
    drawn = jax.random.normal(key, (num_domains, hidden_dim), dtype)
    params["hidden_kernel"] = drawn * (2 / num_domains) ** 0.5
    params["hidden_bias"] = jnp.zeros(hidden_dim, dtype)
  last = jnp.zeros((hidden_dim or num_domains, shape[-1]), dtype)
  return params | {"gain_kernel": last, "shift_kernel": last}


def kernels(hidden_dim: int) -> tuple[str, ...]:
  """Which of them are matrices to an optimizer."""
  matrices = ("hidden_kernel", "gain_kernel", "shift_kernel")
  return matrices if hidden_dim else ()


def check(norm: str, variables: base.Variables, num_domains: int) -> None:
  """Raises UserError where they were made for other conditions."""
  is_deep = "hidden_kernel" in variables["params"]
  first = "hidden_kernel" if is_deep else "gain_kernel"
  domains.check_table(norm, variables, first, num_domains)


def apply(x: Array, params: Mapping[str, Array], s: Array) -> Array:
  """Returns gain * x + offset.

  Args:
    x: (b, …, c), float32 or float64.
    params: of `init`.
    s: (b, domains).
  """
  if "hidden_kernel" in params:
    s = jax.nn.relu(product(s, params["hidden_kernel"]) + params["hidden_bias"])
  gain, offset = (
    params[own].astype(x.dtype) + product(s, params[kernel])
    for own, kernel in (("scale", "gain_kernel"), ("bias", "shift_kernel"))
  )
  return x * domains.rows(gain, x) + domains.rows(offset, x)


def product(s: Array, kernel: Array) -> Array:
  """Returns s kernel, in the dtype of s, whose factors no device rounds."""
  return jnp.matmul(s, kernel.astype(s.dtype), precision=lax.Precision.HIGHEST)
