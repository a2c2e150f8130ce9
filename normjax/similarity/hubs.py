"""Hubness: how unevenly the items of a gallery are found.

Radovanovic et al. 2010 (JMLR 11, 2487): N_k(g), the k-occurrence of an item, is
the number of queries that have it among their k nearest; hubness is the
skewness of N_k over the gallery.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from normjax.similarity import matrices
from normjax.types import Array

__all__ = ["Hubness", "hubness", "k_occurrence", "skewness"]


class Hubness(NamedTuple):
  """How unevenly items are found; scalars.

  Attributes:
    skewness: of the k-occurrences, those of items that no query finds included;
      0 where all are the same.
    antihubs: the share of items that no query has among its k nearest.
    largest: the largest k-occurrence over the mean one, which is k q / g.
  """

  skewness: Array
  antihubs: Array
  largest: Array


def k_occurrence(similarities: Array, *, k: int = 10) -> Array:
  """N_k, (g,), int32: of equally similar items the first ones count.

  NaN counts as the nearest.

  Args:
    similarities: (q, g).
    k: neighbours.

  Raises:
    UserError: k larger than the gallery.
  """
  s_qg = matrices.check_matrix("similarities", similarities)
  k = matrices.check_k("k_occurrence", k, s_qg.shape[1], "the gallery")
  nearest = jax.lax.top_k(s_qg, k)[1].ravel()
  return jnp.zeros(s_qg.shape[1], jnp.int32).at[nearest].add(1)


def skewness(values: Array) -> Array:
  """The third standardized moment over the last axis; 0 where all are equal.

      mean((x - m)^3) / mean((x - m)^2)^(3/2)

  with the mean m: scipy's, without its correction of bias. In float32, or
  float64 for float64.

  The code of arXiv:2310.11612 takes it over the items that some query finds: a
  number of another gallery, and a low one where most items are found by none.
  """
  values = jnp.asarray(values)
  dtype = jnp.promote_types(values.dtype, jnp.float32)
  x = values.astype(dtype)
  # The mean of equal numbers may be off by its rounding.
  least = 64 * jnp.finfo(dtype).eps * jnp.max(jnp.abs(x), axis=-1)
  x -= jnp.mean(x, axis=-1, keepdims=True)
  size = jnp.max(jnp.abs(x), axis=-1)
  differ = size > least
  # So scaled, no square of a count leaves the range of float32.
  x /= jnp.where(differ, size, 1)[..., None]
  square, cube = jnp.mean(x**2, axis=-1), jnp.mean(x**3, axis=-1)
  return jnp.where(differ, cube / jnp.where(differ, square, 1) ** 1.5, 0)


def hubness(similarities: Array, *, k: int = 10) -> Hubness:
  """Measures of the k-occurrences of a gallery; NaN where a similarity is.

  Args:
    similarities: (q, g).
    k: neighbours; 10 as in the code of arXiv:2310.11612.

  Raises:
    UserError: k larger than the gallery.
  """
  counts = k_occurrence(similarities, k=k)
  mean = k * jnp.shape(similarities)[0] / counts.size
  made = (skewness(counts), jnp.mean(counts == 0), jnp.max(counts) / mean)
  is_known = ~jnp.any(jnp.isnan(jnp.asarray(similarities)))
  return Hubness(*(jnp.where(is_known, value, jnp.nan) for value in made))
