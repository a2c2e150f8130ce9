"""Hubness and retrieval."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from normjax import similarity
from tests import support


def _counts(s, k):
  """k-occurrences, item by item."""
  counts = np.zeros(s.shape[1], int)
  for row in np.asarray(s):
    for item in np.argsort(-row, kind="stable")[:k]:
      counts[item] += 1
  return counts


def test_hubness_counts_zeros():
  s = np.asarray(support.normal(20, 30)) + 2 * (np.arange(30) < 2)
  want = _counts(s, 3)
  np.testing.assert_array_equal(similarity.k_occurrence(s, k=3), want)
  found = similarity.hubness(s, k=3)
  # Thirty float32 terms.
  np.testing.assert_allclose(found.skewness, stats.skew(want), rtol=1e-5)
  assert found.antihubs == pytest.approx(np.mean(want == 0)) != 0
  assert found.largest == pytest.approx(want.max() / 2)


@pytest.mark.parametrize("value", [0, 3, 0.1, 1e30])
def test_equal_counts_have_no_skewness(value):
  """Not that of the rounding of their mean, and no NaN."""
  assert similarity.skewness(np.full(7, value, np.float32)) == 0


def test_recall_with_ties_and_without_a_relevant_item():
  s = np.array([[0.5, 0.5, 0.1], [0.9, 0.2, 0.3], [0.3, 0.2, 0.1]])
  relevant = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]], bool)
  np.testing.assert_array_equal(similarity.ranks(s, relevant), [1, 1, 3])
  recall = [
    float(similarity.recall_at_k(s, [0, 1, 5], [0, 1, 1], k=k))
    for k in (1, 2, 3)
  ]
  np.testing.assert_allclose(recall, [0, 2 / 3, 2 / 3], rtol=1e-6)
  for nothing in (np.zeros((4, 4)), np.full((4, 4), np.nan)):
    labels = np.arange(4)
    assert similarity.recall_at_k(nothing, labels, labels, k=3) == 0


def test_banks_take_a_hub_away():
  """An item that is near to all: found again by each query, then by its own."""
  own = 0.3 * np.eye(12)
  s = (
    np.asarray(0.05 * support.normal(12, 12)) + own + 0.5 * (np.arange(12) == 0)
  )
  bank = np.asarray(0.05 * support.normal(40, 12, seed=1)) + 0.5 * (
    np.arange(12) == 0
  )
  labels = np.arange(12)
  assert similarity.recall_at_k(s, labels, labels) < 0.2
  for better in (
    similarity.inverted_softmax(s, bank),
    similarity.dynamic_inverted_softmax(s, bank),
    similarity.dual_bank(s, bank, bank, beta_query=20.0, beta_gallery=20.0),
    similarity.csls(s, k=3),
  ):
    assert similarity.recall_at_k(better, labels, labels) > 0.7
    before, after = (similarity.hubness(m, k=1) for m in (s, better))
    assert after.skewness < before.skewness


def test_nan_has_no_hubness_and_one_class_alone():
  """top_k has NaN first: its item would be the largest hub of all."""
  s = support.normal(6, 4).at[0, 0].set(jnp.nan)
  assert all(np.isnan(value) for value in similarity.hubness(s, k=2))
  labels = jnp.array([0, 0, 1, 1, 2, 2])
  for means in (similarity.class_means, similarity.imprinted):
    found = means(s, labels, 3)
    expected = means(s[2:], labels[2:] - 1, 2)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1:], expected, rtol=1e-6)
