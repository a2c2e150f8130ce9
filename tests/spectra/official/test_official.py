"""Equal to the paper's official code, as `record.py` has recorded it."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from normjax import spectra
from tests.spectra.official import inputs

RECORDED = np.load(pathlib.Path(__file__).parent / "ranks.npz")


def test_buckets_of_tokens():
  found = spectra.bucket_of_token(inputs.counts())
  np.testing.assert_array_equal(found, RECORDED["bucket_of_token"])


@pytest.mark.parametrize("bucket", ["all", *spectra.BUCKETS])
def test_ranks(bucket):
  h_nd, weight = inputs.activations(), np.ones(inputs.NUM_TOKENS)
  if bucket != "all":
    chosen = spectra.bucket_of_token(inputs.counts())[inputs.tokens()]
    weight = (chosen == spectra.BUCKETS.index(bucket)).astype(np.float32)
  sums = spectra.pooled(jnp.asarray(h_nd), jnp.asarray(weight))
  found = spectra.eigenvalues(spectra.covariance(np.asarray(sums)))
  # Sums of 600 float32 products; the official ones are in float64.
  np.testing.assert_allclose(
    (spectra.soft_rank(found), spectra.hard_rank(found)),
    RECORDED[bucket],
    rtol=1e-5,
  )
