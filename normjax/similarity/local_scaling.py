"""Cross-domain similarity local scaling: Conneau et al. 2018, arXiv:1710.04087.

Second-hand: neither the paper's section 2.3 nor the official code,
facebookresearch/MUSE (CC BY-NC), was read; the equation and k = 10 are as
others give them.
"""

import jax
import jax.numpy as jnp

from normjax.similarity import matrices
from normjax.types import Array

__all__ = ["csls"]


def csls(
  similarities: Array, query_bank: Array | None = None, *, k: int = 10
) -> Array:
  """Similarities less how near both ends are to what is nearest to them.

      s'_qg = 2 s_qg - r_q - r_g

  r_q is the mean of the k largest s_qg over the gallery, r_g of the k largest
  over the queries: a hub has a large r_g.

  Args:
    similarities: s, (q, g), cosines in the paper.
    query_bank: (n, g), the queries over which r_g is taken; None: those of s,
      as in the paper, whose queries are all known.
    k: neighbours; 10 in the paper.

  Returns:
    (q, g).

  Raises:
    UserError: a bank of another gallery, or k larger than the gallery or than
      the queries.
  """
  s_qg = matrices.check_matrix("similarities", similarities)
  named, bank_ng = "the queries", s_qg
  if query_bank is not None:
    bank_ng = matrices.check_bank("query_bank", query_bank, s_qg)
    named = "the query bank"
  k = matrices.check_k("csls", k, s_qg.shape[1], "the gallery")
  k = matrices.check_k("csls", k, bank_ng.shape[0], named)
  r_q1 = jnp.mean(jax.lax.top_k(s_qg, k)[0], axis=1, keepdims=True)
  r_g = jnp.mean(jax.lax.top_k(bank_ng.T, k)[0], axis=1)
  return 2 * s_qg - r_q1 - r_g
