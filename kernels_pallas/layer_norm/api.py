"""The op and its implementations."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from kernels_pallas import blocks as blocks_lib
from kernels_pallas import dispatch
from kernels_pallas.layer_norm import blocks, ref, xla


def layer_norm(
  x: Array,
  scale: Array | None = None,
  bias: Array | None = None,
  eps: float = 1e-6,
  impl: str | Sequence[str] | None = None,
) -> Array:
  """Layer normalization over the last axis.

      y = (x - mean(x)) / sqrt(var(x) + eps) * scale + bias

  arXiv:1607.06450, equations 3 and 4, with the biased variance. Two passes,
  accumulated in float32 (float64 for float64); y is rounded once, to the dtype
  of x.

  Args:
    x: (..., d), floating.
    scale: (d,), or None for 1.
    bias: (d,), or None for 0.
    eps: inside the square root.
    impl: "xla_blocks", for large x on one CPU: block by block of rows; "xla",
      plain operations with a hand-written backward pass; "reference", plain
      operations and autodiff, also forward-mode. None takes the first that
      runs here; a tuple is tried in its order.

  Returns:
    Of the shape and dtype of x.

  Raises:
    TypeError: an x that is not floating.
    ValueError: a scale or bias that does not fit.
    UnsupportedError: no implementation that was asked for runs here.
  """
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise TypeError(f"layer_norm needs a floating x; got dtype {x.dtype}.")
  for name, value in (("scale", scale), ("bias", bias)):
    shape = x.shape[-1:] if value is None else value.shape
    if not x.ndim or shape != x.shape[-1:]:
      raise ValueError(
        f"layer_norm needs x (..., d) and {name} (d,); got x of shape"
        f" {x.shape} and {name} of shape {shape}."
      )
  candidate = dispatch.choose("layer_norm", _CANDIDATES, impl, x)
  return candidate.function(x, scale, bias, eps)


_CANDIDATES = (
  dispatch.Candidate("xla_blocks", blocks.layer_norm, blocks_lib.supports),
  dispatch.Candidate("xla", xla.layer_norm),
  dispatch.Candidate("reference", ref.layer_norm),
)
IMPLEMENTATIONS = tuple(candidate.name for candidate in _CANDIDATES)
