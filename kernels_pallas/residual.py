"""What ops over rows share of a residual, which is added to x first."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

Results = Array | tuple[Array, Array]


def plain(function: Callable[..., Any], vectors: int) -> Callable[..., Results]:
  """An op of (x, *vectors, residual, eps) by a function without a residual.

  Args:
    function: of (x, *vectors, eps).
    vectors: how many there are.

  Returns:
    The op; its eps is 1e-6 by default, and may be named.
  """

  def run(x: Array, *rest: Any, eps: float = 1e-6) -> Results:
    given, (residual, *last) = rest[:vectors], rest[vectors:]
    eps = last[0] if last else eps
    if residual is None:
      return function(x, *given, eps)
    h = x + residual
    return function(h, *given, eps), h

  return run


def by_rows(
  kernel: Callable[[Array, Array | None], Any],
  x: Array,
  residual: Array | None,
) -> Results:
  """y, or y and h, by a kernel over rows, of the shape of x.

  Args:
    kernel: from x and the residual, (rows, d), to y and h; h is None where the
      residual is.
    x: (..., d).
    residual: of the shape of x, or None.
  """
  x_bd = x.reshape(-1, x.shape[-1])
  residual_bd = None if residual is None else residual.reshape(x_bd.shape)
  y_bd, h_bd = kernel(x_bd, residual_bd)
  if h_bd is None:
    return y_bd.reshape(x.shape)
  return y_bd.reshape(x.shape), h_bd.reshape(x.shape)


def total(values: list[Array], dtype: Any) -> Array:
  """x, or x and the residual added, in float32; rounded as it is stored.

  So it is what is read backward, and by whoever reads the sum.
  """
  first, *others = values
  h = jnp.add(first, *others) if others else first
  return h.astype(dtype).astype(jnp.float32)
