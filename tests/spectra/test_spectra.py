"""Ranks against what is known of their spectra, and buckets of tokens."""

import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, spectra


def _ranks(h_nd, shards=1):
  sums = sum(
    np.asarray(spectra.pooled(jnp.asarray(part), jnp.ones(len(part))), float)
    for part in np.split(h_nd, shards)
  )
  found = spectra.eigenvalues(spectra.covariance(sums))
  return spectra.soft_rank(found), spectra.hard_rank(found)


def _power_law_columns():
  columns = np.random.default_rng(0).normal(size=(4096, 64))
  return columns * np.arange(1, 65) ** -0.5


def test_spectra_that_are_known():
  for matrix, want in (
    (np.eye(12), 12.0),
    (np.outer(np.arange(1, 6), np.arange(1, 6)), 1.0),
    (np.diag([3.0] * 4 + [0.0] * 4), 4.0),  # Dead units.
  ):
    found = spectra.eigenvalues(matrix)
    # The clamp leaves 1e-12 log(1e-12) per unit.
    assert spectra.soft_rank(found) == pytest.approx(want, abs=1e-8)
    assert spectra.hard_rank(found) == pytest.approx(want, abs=1e-8)


def test_the_covariance_is_numpys_however_it_is_pooled():
  h_nd = _power_law_columns().astype(np.float32) + 3
  want = np.cov(h_nd.astype(np.float64), rowvar=False)
  sums = np.asarray(
    spectra.pooled(jnp.asarray(h_nd), jnp.ones(len(h_nd))), float
  )
  # Sums of 4096 squares near 9, at 2**-24 each, over variances down to 1/64.
  np.testing.assert_allclose(spectra.covariance(sums), want, atol=2e-5)
  whole, pooled = _ranks(h_nd), _ranks(h_nd, shards=4)
  np.testing.assert_allclose(whole, pooled, rtol=1e-5)


def test_power_law_columns_have_the_ranks_of_a_transcription():
  h_nd = _power_law_columns()
  exact = np.linalg.eigvalsh(np.cov(h_nd, rowvar=False))
  p = exact / exact.sum()
  want = np.exp(-(p * np.log(p)).sum()), exact.sum() ** 2 / (exact**2).sum()
  np.testing.assert_allclose(_ranks(h_nd), want, rtol=1e-5)


@pytest.mark.parametrize("n", [1024, 256, 128])
def test_few_tokens_bias_the_hard_rank_as_marchenko_pastur_says(n):
  """Of white data D / (1 + D / n): n = 20 D is within 5% of D."""
  h_nd = np.random.default_rng(1).normal(size=(n, 256))
  # n - 1 for n of the centred data; the sample's spread is below 1%.
  want = 256 / (1 + 256 / (n - 1))
  assert _ranks(h_nd)[1] == pytest.approx(want, rel=0.01)


def test_neither_scale_nor_rotation_nor_shift_matter():
  h_nd = _power_law_columns()
  turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(64, 64)))
  want = _ranks(h_nd)
  for other in (7 * h_nd, h_nd @ turn, h_nd + 2):
    np.testing.assert_allclose(_ranks(other), want, rtol=1e-5)


def test_hard_is_at_most_soft():
  for seed in range(5):
    found = np.random.default_rng(seed).exponential(size=20) ** 3
    hard, soft = spectra.hard_rank(found), spectra.soft_rank(found)
    assert 1 <= hard <= soft <= 20


def test_padding_counts_for_nothing():
  h_nd = _power_law_columns()[:100].astype(np.float32)
  padded = np.concatenate([h_nd, np.full((5, 64), np.nan, np.float32)])
  weight = np.concatenate([np.ones(100), np.zeros(5)])
  np.testing.assert_allclose(
    spectra.pooled(jnp.asarray(padded), jnp.asarray(weight)),
    spectra.pooled(jnp.asarray(h_nd), jnp.ones(100)),
    rtol=1e-5,
    atol=1e-4,
  )
  with pytest.raises(errors.UserError, match="0 tokens; needed: two"):
    spectra.covariance(np.zeros((3, 3)))


def test_what_is_not_finite_has_no_rank():
  found = spectra.eigenvalues(np.full((3, 3), np.nan))
  assert np.isnan(spectra.hard_rank(found))


def test_buckets_are_thirds_of_the_occurrences():
  counts = (10_000 / np.arange(1, 2001)).astype(int)
  counts = np.random.default_rng(3).permutation(counts)
  found = spectra.bucket_of_token(counts)
  share = np.bincount(found, counts) / counts.sum()
  # Within the count of a token that is as frequent as the last one.
  np.testing.assert_allclose(share, (0.33, 0.34, 0.33), atol=0.05)
  types = np.bincount(found)
  assert types[0] < 20 < types[1] < types[2]
  assert counts[found == 0].min() > counts[found == 1].max()


@pytest.mark.parametrize("counts", [[5, 1], [[1, 2, 3]], [1, -1, 2]])
def test_what_is_no_count_is_named(counts):
  with pytest.raises(errors.UserError, match="token counts of shape"):
    spectra.bucket_of_token(np.asarray(counts))


@pytest.mark.parametrize(
  ("function", "arguments", "said"),
  [
    (spectra.pooled, ((2, 8, 4), (2, 8)), r"shape \(2, 8, 4\); needed: \(tok"),
    (spectra.pooled, ((8, 4), (1,)), r"weights of shape \(1,\).*\(8,\), one"),
    (spectra.pooled, ((8, 4), (8, 1)), r"weights of shape \(8, 1\)"),
    (spectra.covariance, ((8, 4),), r"`pooled` of shape \(8, 4\); needed"),
    (spectra.eigenvalues, ((8, 4),), r"covariance of shape \(8, 4\); needed"),
    (spectra.eigenvalues, ((0, 0),), r"covariance of shape \(0, 0\)"),
    (spectra.hard_rank, ((4, 4),), r"eigenvalues of shape \(4, 4\)"),
    (spectra.soft_rank, ((0,),), r"eigenvalues of shape \(0,\)"),
  ],
)
def test_other_shapes_are_refused(function, arguments, said):
  with pytest.raises(errors.UserError, match=said):
    function(*(np.ones(shape, np.float32) for shape in arguments))


def test_what_is_no_covariance_is_refused():
  with pytest.raises(errors.UserError, match="not symmetric"):
    spectra.eigenvalues(np.array([[1.0, 5.0], [0.0, 1.0]]))
  for rank in (spectra.hard_rank, spectra.soft_rank):
    with pytest.raises(errors.UserError, match="eigenvalue of -1; needed"):
      rank(np.array([1.0, -1.0]))
    # A run that diverged has a rank that says so.
    assert np.isnan(rank(spectra.eigenvalues(np.full((2, 2), np.nan))))
  with pytest.raises(errors.UserError, match="token counts"):
    spectra.bucket_of_token(np.array([5, np.nan, 1]))
