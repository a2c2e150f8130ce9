"""Similarities normalized by banks of queries and of gallery items.

Inverted softmax: Smith et al. 2017, arXiv:1702.03859. Dynamic inverted softmax:
Bogolin et al. 2022, arXiv:2112.12777, code ioanacroi/qb-norm (MIT), which was
read. Two banks: Wang et al. 2023, arXiv:2310.11612, code
yimuwangcs/Better_Cross_Modal_Retrieval (MIT), which was read; of the paper only
the abstract.

A hub is near to everything. A bank of other queries finds it out: what is near
to many of them is divided by much.
"""

from typing import Any

import jax
import jax.numpy as jnp

from normjax import validate
from normjax.similarity import matrices
from normjax.types import Array

__all__ = [
  "activated", "dual_bank", "dynamic_inverted_softmax", "inverted_softmax",
]  # fmt: skip


def inverted_softmax(
  similarities: Array, bank: Array, *, beta: Any = 20.0, log: bool = False
) -> Array:
  """The inverted softmax.

      s'_qg = exp(beta s_qg) / sum_n exp(beta b_ng)

  as exp(beta s - logsumexp(beta b)): nothing overflows on the way.

  Args:
    similarities: s, (q, g), of queries to the gallery.
    bank: b, (n, g), of the bank's queries to the same gallery.
    beta: the inverse temperature, > 0; 20 in qb-norm, 1 / 1.99 for CLIP2Video,
      whose similarities are 100 times cosines.
    log: whether to give log s', which ranks alike and does not underflow.

  Returns:
    (q, g).

  Raises:
    UserError: a bank of another gallery, or beta <= 0.
  """
  s_qg = matrices.check_matrix("similarities", similarities)
  b_ng = matrices.check_bank("bank", bank, s_qg)
  _check_beta("inverted_softmax", beta=beta)
  found = beta * s_qg - jax.nn.logsumexp(beta * b_ng, axis=0)
  return found if log else jnp.exp(found)


def activated(similarities: Array, bank: Array, *, k: int = 1) -> Array:
  """Which queries' nearest item is among the k nearest of any bank query.

  Args:
    similarities: (q, g).
    bank: (n, g).
    k: how many items each bank query activates.

  Returns:
    (q,), booleans.

  Raises:
    UserError: a bank of another gallery, or k larger than the gallery.
  """
  s_qg = matrices.check_matrix("similarities", similarities)
  b_ng = matrices.check_bank("bank", bank, s_qg)
  items = s_qg.shape[1]
  k = matrices.check_k("activated", k, items, "the gallery")
  nearest = jax.lax.top_k(b_ng, k)[1]
  active_g = jnp.zeros(items, bool).at[nearest.ravel()].set(True)
  return active_g[jnp.argmax(s_qg, axis=1)]


def dynamic_inverted_softmax(
  similarities: Array,
  bank: Array,
  *,
  beta: Any = 20.0,
  k: int = 1,
  log: bool = False,
) -> Array:
  """The inverted softmax of those queries that a hub may catch.

  Rows that are `activated` are those of `inverted_softmax`; all others stay as
  they are. So rows have two scales: each ranks the gallery, and no two may be
  compared (not for the queries of an item, nor for a threshold).

  Args:
    similarities: (q, g).
    bank: (n, g).
    beta: as for `inverted_softmax`.
    k: as for `activated`.
    log: whether normalized rows are logarithms.

  Returns:
    (q, g), a new array; qb-norm's function writes into the similarities.

  Raises:
    UserError: as `inverted_softmax` and `activated`.
  """
  s_qg = matrices.check_matrix("similarities", similarities)
  normalized = inverted_softmax(s_qg, bank, beta=beta, log=log)
  return jnp.where(activated(s_qg, bank, k=k)[:, None], normalized, s_qg)


def dual_bank(
  similarities: Array,
  query_bank: Array,
  gallery_bank: Array,
  *,
  beta_query: Any = 1 / 1.99,
  beta_gallery: Any = 3.0,
  dynamic: bool = False,
  k: int = 1,
  log: bool = False,
) -> Array:
  """Dual bank normalization: a product of two inverted softmaxes.

      s'_qg = IS(s, query_bank)_qg IS(s, gallery_bank)_qg

  or of two dynamic ones, where each bank activates queries of its own. This is
  the intent: the released `db_norm` never reads the test similarities. It
  normalizes those of the gallery bank to the gallery, by both banks, and gives
  back a matrix with a row per bank item.

  Args:
    similarities: s, (q, g).
    query_bank: (n, g), of queries to the gallery.
    gallery_bank: (m, g), of other gallery items to the gallery.
    beta_query: inverse temperature for the first; the code's default.
    beta_gallery: inverse temperature for the second; the code's default.
    dynamic: whether both are dynamic. Where only one bank activates a query,
      its row is the similarity times the other's inverted softmax; where none
      does, it is the similarity squared, which is no ranking for negative
      similarities.
    k: of `activated`.
    log: whether to give log s', which does not underflow; not with `dynamic`,
      whose raw rows have no logarithm.

  Returns:
    (q, g).

  Raises:
    UserError: a bank of another gallery, a beta <= 0, k larger than the
      gallery, or `log` with `dynamic`.
  """
  _check_beta("dual_bank", beta_query=beta_query, beta_gallery=beta_gallery)
  s_qg = matrices.check_matrix("similarities", similarities)
  pairs = (
    (matrices.check_bank("query_bank", query_bank, s_qg), beta_query),
    (matrices.check_bank("gallery_bank", gallery_bank, s_qg), beta_gallery),
  )
  if dynamic:
    if log:
      validate.refuse("dual_bank", "log", log, "False with dynamic=True")
    first, second = (
      dynamic_inverted_softmax(s_qg, bank, beta=beta, k=k)
      for bank, beta in pairs
    )
    return first * second
  first, second = (
    inverted_softmax(s_qg, bank, beta=beta, log=True) for bank, beta in pairs
  )
  return first + second if log else jnp.exp(first + second)


def _check_beta(owner: str, **betas: Any) -> None:
  for name, beta in betas.items():
    matrices.check_positive(owner, name, beta)
