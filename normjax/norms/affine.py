"""The learned gain and offset that follow most norms, one a channel."""

from collections.abc import Mapping

import jax.numpy as jnp
from jax.typing import DTypeLike

from normjax.norms import base
from normjax.types import Array


def init(
  shape: tuple[int, ...],
  dtype: DTypeLike,
  use_scale: bool = True,
  use_bias: bool = True,
) -> dict[str, Array]:
  """`scale` of ones and `bias` of zeros, for the last axis of `shape`."""
  scale = {"scale": jnp.ones(shape[-1:], dtype)} if use_scale else {}
  bias = {"bias": jnp.zeros(shape[-1:], dtype)} if use_bias else {}
  return scale | bias


def check(norm: str, x: Array, params: Mapping[str, Array]) -> None:
  """Raises UserError unless x has as many channels as the parameters."""
  for name in ("scale", "bias"):
    if name in params:
      base.check_features(norm, x, params[name].size)


def apply(x: Array, params: Mapping[str, Array]) -> Array:
  """Returns x * scale + bias in the dtype of x, each where `params` has it."""
  if "scale" in params:
    x = x * params["scale"].astype(x.dtype)
  if "bias" in params:
    x = x + params["bias"].astype(x.dtype)
  return x
