"""Spectral rank: how many directions the activations of a layer use.

    soft rank = exp(-sum_i p_i log p_i)          p_i = lambda_i / sum_j lambda_j
    hard rank = (sum_i lambda_i)^2 / sum_i lambda_i^2

of the eigenvalues lambda of the covariance of a layer's activations over
tokens: of what is inside a feed-forward, not of weights. Jha, Reagen 2026,
arXiv:2605.21803; equations held against its code
(optimizer-scaling-laws/spectral-scaling-laws, MIT). Of D features
1 <= hard <= soft <= D, where the eigenvalues are well above 1e-6: the code's
1e-12, which stands beside their squares too, does not go with their unit.

The metrics `ffn_hard_rank` and `ffn_soft_rank` measure a run with it, and
`statistics.power_law` fits how a rank grows with the width. Of a model of your
own, batch by batch:

    >>> import jax.numpy as jnp, numpy as np
    >>> from normjax import spectra
    >>> sums = 0
    >>> for seed in range(4):
    ...   h_btd = np.random.default_rng(seed).normal(size=(8, 64, 16))
    ...   h_nd = jnp.asarray(h_btd.reshape(-1, 16))  # A token per row.
    ...   sums += np.asarray(spectra.pooled(h_nd, jnp.ones(len(h_nd))), float)
    >>> found = spectra.eigenvalues(spectra.covariance(sums))
    >>> print(f"{spectra.hard_rank(found):.1f} of {h_nd.shape[-1]}")
    15.9 of 16
"""

from normjax.spectra.buckets import BUCKETS, bucket_of_token
from normjax.spectra.moments import covariance, pooled
from normjax.spectra.ranks import eigenvalues, hard_rank, soft_rank

__all__ = [
  "BUCKETS",
  "bucket_of_token",
  "covariance",
  "eigenvalues",
  "hard_rank",
  "pooled",
  "soft_rank",
]
