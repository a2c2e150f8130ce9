"""A vector per class from embeddings: class means, and imprinted weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from normjax import errors, validate
from normjax.nn import checks
from normjax.similarity import matrices
from normjax.types import Array

__all__ = [
  "class_means", "imprinted", "negative_squared_distance",
]  # fmt: skip


def class_means(embeddings: Array, labels: Array, num_classes: int) -> Array:
  """The mean embedding of each class, (c, d); NaN for a class without any.

  A class of which an embedding is not finite is NaN, and no other.

  The prototypes of Snell et al. 2017 (arXiv:1703.05175, equation 1) and the
  nearest-mean classifier's (Mensink et al. 2013); of embeddings of length 1 the
  means of exemplars of iCaRL (arXiv:1611.07725), which normalizes them again,
  as `imprinted` does.

  Args:
    embeddings: (n, d).
    labels: (n,), from 0 to num_classes - 1.
    num_classes: c.

  Raises:
    UserError: labels of another number or, where they are known, out of range.
  """
  x_nd = matrices.check_matrix("embeddings", embeddings)
  validate.counts("class_means", num_classes=num_classes)
  labels = _checked_labels(labels, len(x_nd), num_classes)
  one_hot_nc = jax.nn.one_hot(labels, num_classes, dtype=x_nd.dtype)
  # In a product NaN is in all sums: 0 of another class is NaN as well.
  is_bad_n = ~jnp.all(jnp.isfinite(x_nd), axis=1)
  sums_cd = matrices.product(
    one_hot_nc.T, jnp.where(is_bad_n[:, None], 0, x_nd)
  )
  counts_c = jnp.sum(one_hot_nc, axis=0)
  is_bad_c = jnp.any(is_bad_n[:, None] & (one_hot_nc > 0), axis=0)
  return jnp.where(is_bad_c[:, None], jnp.nan, sums_cd / counts_c[:, None])


def imprinted(embeddings: Array, labels: Array, num_classes: int) -> Array:
  """A unit vector per class: the mean of unit embeddings, normalized again.

      w_c = m_c / ||m_c||,  m_c = mean over i of c of x_i / ||x_i||

  Weight imprinting: Qi, Brown, Lowe 2018, arXiv:1712.07136, whose abstract was
  read, and independent code. The classifier that goes with it is a softmax of
  s cos(x, w_c): `heads`, "normalized_softmax".

  Args:
    embeddings: (n, d).
    labels: (n,), from 0 to num_classes - 1.
    num_classes: c; a class without an example is NaN.

  Raises:
    UserError: as `class_means`.
  """
  x_nd = matrices.unit(matrices.check_matrix("embeddings", embeddings))
  return matrices.unit(class_means(x_nd, labels, num_classes))


def negative_squared_distance(queries_qd: Array, gallery_gd: Array) -> Array:
  """-||x_q - w_g||^2, (q, g), at most 0; its error is a rounding of ||x||^2.

  Raises:
    UserError: other axes, or embeddings of another dimension.
  """
  x_qd, w_gd = matrices.check_pair(queries_qd, gallery_gd)
  squares = jnp.sum(x_qd**2, axis=1)[:, None] + jnp.sum(w_gd**2, axis=1)
  return jnp.minimum(2 * matrices.product(x_qd, w_gd.T) - squares, 0)


def _checked_labels(labels: Any, size: int, num_classes: int) -> Array:
  if np.shape(labels) != (size,):
    raise errors.UserError(
      f"labels of shape {np.shape(labels)}; allowed: one per embedding,"
      f" ({size},)."
    )
  checks.check_ids("labels", labels, num_classes, "num_classes")
  return jnp.asarray(labels)
