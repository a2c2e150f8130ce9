"""Weight normalization: Salimans, Kingma 2016, arXiv:1602.07868."""

from typing import Any

import jax.numpy as jnp

from normjax.norms import modes, moments
from normjax.norms.weights import base
from normjax.types import Array


def weight_norm() -> base.WeightNorm:
  """Weight normalization: length and direction of each filter apart.

      w = g v / ||v||

  arXiv:1602.07868, equation 2. v is the kernel that the layer holds, and
  ||v|| the length of all weights of one output. g starts at ||v||, so that
  the layer starts as it was without; the paper's data-dependent
  initialization (section 3) is not part of it. There is no eps: a filter of
  zeros stays zero, with gradient 0. Lengths are float32 (float64 for
  float64).

  One parameter: `gain` (o,), the paper's g.

  Raises:
    UserError: from `apply`, a gain of another kernel.
  """
  return base.WeightNorm(
    name="weight_norm", options={}, init_fn=_init, apply_fn=_apply
  )


def _length(kernel: Array) -> Array:
  """||v|| of each output, its reduced axes kept."""
  square = jnp.sum(
    jnp.square(moments.promote(kernel)),
    axis=tuple(range(kernel.ndim - 1)),
    keepdims=True,
  )
  return moments.root(square)


def _init(kernel: Array, key: Array | None, **_: Any):
  del key
  return {"params": {"gain": _length(kernel).reshape(-1)}}


def _apply(variables: base.Variables, kernel: Array, *, mode: modes.Mode):
  del mode
  shapes = {"gain": kernel.shape[-1:]}
  (gain,) = base.checked_variables("weight_norm", variables, "params", shapes)
  length = _length(kernel)
  ratio = gain.astype(length.dtype) / jnp.where(length > 0, length, 1)
  w = moments.promote(kernel) * jnp.where(length > 0, ratio, 0)
  return w.astype(kernel.dtype), variables["stats"]
