"""What a ranking of a gallery is worth: ranks and recall at k."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from normjax import errors
from normjax.similarity import matrices
from normjax.types import Array

__all__ = ["ranks", "recall_at_k"]


def ranks(similarities: Array, relevant: Array) -> Array:
  """The rank of the best relevant item of each query, 0 for the first.

  The number of irrelevant items that are at least as similar: of equal
  similarities the relevant one comes last, so that a matrix of one value
  finds nothing, and neither does NaN. qb-norm's metric takes the mean of the
  tied places; without ties both are the same.

  Args:
    similarities: (q, g).
    relevant: (q, g), booleans.

  Returns:
    (q,), int32; g where a query has no relevant item.

  Raises:
    UserError: masks of another shape.
  """
  s_qg = matrices.check_matrix("similarities", similarities)
  relevant = jnp.asarray(relevant)
  if relevant.shape != s_qg.shape or relevant.dtype != jnp.bool_:
    raise errors.UserError(
      f"relevant of shape {relevant.shape}, {relevant.dtype}; allowed: booleans"
      f" of the similarities' shape {s_qg.shape}."
    )
  # A relevant NaN hides nothing: it is the worst, as an irrelevant one is best.
  own = jnp.where(relevant & ~jnp.isnan(s_qg), s_qg, -jnp.inf)
  best_q1 = jnp.max(own, axis=1, keepdims=True)
  found = jnp.sum(~relevant & ~(s_qg < best_q1), axis=1, dtype=jnp.int32)
  return jnp.where(jnp.any(relevant, axis=1), found, s_qg.shape[1])


def recall_at_k(
  similarities: Array,
  query_labels: Array,
  gallery_labels: Array | None = None,
  *,
  k: int = 1,
) -> Array:
  """The share of queries with an item of their class among the k nearest.

  A query without such an item counts as missed. Ties count as in `ranks`.

  Args:
    similarities: (q, g).
    query_labels: (q,), int.
    gallery_labels: (g,), int; None: the gallery is the queries themselves, and
      each is left out of its own ranking, as for CUB and Cars.
    k: places.

  Returns:
    A scalar in [0, 1], float32.

  Raises:
    UserError: labels of another number, or k larger than the gallery, of which
      a query that is left out is no part.
  """
  s_qg = matrices.check_matrix("similarities", similarities)
  queries, items = s_qg.shape
  alone = gallery_labels is None
  labels_q = _labels("query_labels", query_labels, queries)
  if alone and queries != items:
    raise errors.UserError(
      f"similarities of shape {s_qg.shape} without gallery_labels: the gallery"
      " is then the queries, and the matrix square."
    )
  others = query_labels if alone else gallery_labels
  labels_g = _labels("gallery_labels", others, items)
  k = matrices.check_k("recall_at_k", k, items - alone, "the gallery")
  relevant = labels_q[:, None] == labels_g
  if alone:
    itself = jnp.eye(items, dtype=bool)
    # Neither relevant nor in the way.
    s_qg, relevant = jnp.where(itself, -jnp.inf, s_qg), relevant & ~itself
  return jnp.mean(ranks(s_qg, relevant) < k, dtype=jnp.float32)


def _labels(name: str, labels: Any, size: int) -> Array:
  if np.shape(labels) != (size,):
    raise errors.UserError(
      f"{name} of shape {np.shape(labels)}; allowed: one per item, ({size},)."
    )
  labels = jnp.asarray(labels)
  if not jnp.issubdtype(labels.dtype, jnp.integer):
    raise errors.UserError(f"{name} of {labels.dtype}; allowed: integers.")
  return labels
