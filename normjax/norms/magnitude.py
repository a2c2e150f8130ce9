"""Magnitude times direction, the parameters of weight normalization.

    w = g v / ||v||

Salimans, Kingma 2016, arXiv:1602.07868, equation 2. There is no eps: where v
is zero, so is w, with gradient 0. Lengths are float32 (float64 for float64).
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax.typing import DTypeLike

from normjax.norms import moments
from normjax.types import Array

# How a gain is parametrized.
FORMS = ("plain", "magnitude_direction")


def length(v: Array, axes: Sequence[int]) -> Array:
  """||v|| over the axes, which are kept."""
  square = jnp.sum(
    jnp.square(moments.promote(v)), axis=tuple(axes), keepdims=True
  )
  return moments.root(square)


def scaled(v: Array, g: Array, axes: Sequence[int]) -> Array:
  """The product g v / ||v|| over the axes, in float32 at least."""
  lengths = length(v, axes)
  ratio = g.astype(lengths.dtype) / jnp.where(lengths > 0, lengths, 1)
  return moments.promote(v) * jnp.where(lengths > 0, ratio, 0)


def init(features: int, dtype: DTypeLike = jnp.float32) -> dict[str, Array]:
  """`magnitude` () and `direction` (d,) of the gain 1.

      gain = magnitude * direction / ||direction||

  direction starts at ones and magnitude at their length, sqrt(d), as weight
  normalization starts at ||v||. Adam's step is near the learning rate whatever
  the gradient's size: relative to itself the magnitude moves sqrt(d) times
  slower than an entry of a plain gain does.

  arXiv:2605.26895 proposes a "magnitude-direction reparameterization" of scale
  vectors; its abstract was read, its formulas were not. This is our reading.
  """
  return {
    "magnitude": jnp.sqrt(jnp.asarray(features, dtype)),
    "direction": jnp.ones((features,), dtype),
  }


def gain(params: Mapping[str, Array]) -> Array:
  """The gain (d,) of what `init` makes."""
  return scaled(params["direction"], params["magnitude"], (-1,))
