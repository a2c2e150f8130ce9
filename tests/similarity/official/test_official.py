"""normjax against official codes, as recorded by `record.py`."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from normjax import similarity
from normjax.objectives import cross_entropy
from normjax.similarity import heads
from tests.similarity.official import inputs

FOLDER = pathlib.Path(__file__).parent
# Sums of at most 30 float64 terms, exponentials of at most 20 in between.
CLOSE = {"rtol": 1e-12, "atol": 1e-13}


@pytest.fixture(autouse=True)
def in_float64():
  with jax.enable_x64(True):
    yield


def _recorded(case):
  with np.load(FOLDER / f"{case}.npz") as file:
    return {k: v for k, v in file.items() if k != "meta"}


@pytest.mark.parametrize(("k", "beta"), [(1, 20), (3, 2)])
def test_dynamic_inverted_softmax(k, beta):
  want = _recorded("qb_norm")[f"k{k}_beta{beta}"]
  s, bank = inputs.similarities(), inputs.query_bank()
  got = similarity.dynamic_inverted_softmax(s, bank, k=k, beta=beta)
  np.testing.assert_allclose(got, want, **CLOSE)
  # Both kinds of rows are there, and the caller's matrix is as it was.
  raw = (want == s).all(axis=1)
  assert 0 < raw.sum() < len(s)
  active = similarity.activated(s, bank, k=k)
  np.testing.assert_array_equal(active, ~raw)
  logs = similarity.dynamic_inverted_softmax(s, bank, k=k, beta=beta, log=True)
  np.testing.assert_array_equal(np.argsort(logs), np.argsort(want))


def test_inverted_softmax():
  want = _recorded("db_norm")["inverted_softmax"]
  arguments = inputs.similarities(), inputs.query_bank()
  got = similarity.inverted_softmax(*arguments)
  np.testing.assert_allclose(got, want, **CLOSE)
  logs = similarity.inverted_softmax(*arguments, log=True)
  np.testing.assert_allclose(np.exp(logs), want, **CLOSE)


def test_dual_bank_is_the_intent():
  recorded = _recorded("db_norm")
  banks = inputs.query_bank(), inputs.gallery_bank()
  for name, dynamic in (("intent", False), ("dynamic", True)):
    got = similarity.dual_bank(
      inputs.similarities(), *banks, dynamic=dynamic, k=2
    )
    np.testing.assert_allclose(got, recorded[name], **CLOSE)
  logs = similarity.dual_bank(inputs.similarities(), *banks, log=True)
  np.testing.assert_allclose(np.exp(logs), recorded["intent"], **CLOSE)


def test_the_released_dual_bank_reads_no_similarities():
  """It was given NaN for them, and has a row per item of the gallery bank."""
  got = _recorded("db_norm")["static"]
  banks = inputs.query_bank(), inputs.gallery_bank()
  want = similarity.dual_bank(inputs.gallery_bank(), *banks)
  np.testing.assert_allclose(got, want, **CLOSE)


def test_skewness_counts_items_that_none_finds():
  """The official one leaves them out, and is that of the items found."""
  counts = similarity.k_occurrence(inputs.query_bank(), k=3)
  assert (counts == 0).any()
  want = _recorded("db_norm")["skewness"]
  found = counts[counts > 0].astype(jnp.float64)
  np.testing.assert_allclose(similarity.skewness(found), want, **CLOSE)
  ours = similarity.hubness(inputs.query_bank(), k=3).skewness
  np.testing.assert_allclose(ours, stats.skew(counts), rtol=1e-5)
  assert abs(ours - want) > 0.5


def test_ranks_and_recall():
  recorded = _recorded("qb_norm")
  s = inputs.similarities()
  queries = np.repeat(np.arange(inputs.ITEMS), inputs.QUERIES // inputs.ITEMS)
  items = np.arange(inputs.ITEMS)
  ranks = np.asarray(similarity.ranks(s, queries[:, None] == items)) + 1
  got = [
    100 * float(similarity.recall_at_k(s, queries, items, k=k))
    for k in (1, 5, 10)
  ]
  # The official metrics are rounded to one digit.
  np.testing.assert_allclose(got, recorded["recall"], atol=0.0501)
  both = [np.median(ranks), np.mean(ranks)]
  np.testing.assert_allclose(both, recorded["median_mean_rank"], atol=0.0501)


def test_recall_among_embeddings():
  want = _recorded("norm_softmax")["recall"]
  vectors, classes = inputs.embeddings()
  cosines = similarity.cosine(vectors, vectors)
  got = [
    100 * float(similarity.recall_at_k(cosines, classes, k=k + 1))
    for k in range(8)
  ]
  # A float32 share of 40.
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert 0 < want[0] < want[-1]


def test_normalized_softmax():
  want = _recorded("norm_softmax")
  head = heads.make("normalized_softmax", embedding_dim=inputs.DIM)
  kernel, proxies = inputs.parameters()
  labels = jnp.asarray(inputs.labels())

  def loss(images, embedding_kernel, kernel):
    params = {"embedding_kernel": embedding_kernel, "kernel": kernel}
    found = head.apply({"params": params}, jnp.mean(images, axis=(2, 3)))
    sums = cross_entropy.weighted_sums(
      found.logits, labels, jnp.ones(labels.shape)
    )
    log_p = jax.nn.log_softmax(found.logits)
    nll = -jnp.mean(jnp.take_along_axis(log_p, labels[:, None], axis=1))
    # The table's loss agrees, in its float32.
    return nll, (found.embedding, sums["loss"] / len(labels))

  (value, (embedding, theirs)), gradients = jax.value_and_grad(
    loss, argnums=(0, 1, 2), has_aux=True
  )(inputs.features(), kernel, proxies)
  np.testing.assert_allclose(value, want["loss"], **CLOSE)
  np.testing.assert_allclose(theirs, want["loss"], rtol=1e-6)
  np.testing.assert_allclose(embedding, want["embedding"], **CLOSE)
  names = ("dx", "dembedding_kernel", "dkernel")
  for name, got in zip(names, gradients, strict=True):
    # Cosines over 0.05: sums of a few terms of size 20.
    np.testing.assert_allclose(got, want[name], rtol=1e-10, atol=1e-11)
