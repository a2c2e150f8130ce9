"""Matrices of similarities, banks of them, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, similarity
from tests import support

Q, G, N, D = 7, 5, 9, 4
S = np.asarray(support.normal(Q, G))
BANK = np.asarray(support.normal(N, G, seed=1))
X = np.asarray(support.normal(Q, D, seed=2))
LABELS = np.arange(Q) % 3


def test_cosine_and_hamming():
  y = np.asarray(support.normal(G, D, seed=3), np.float64)
  x = X.astype(np.float64)
  want = (
    x @ y.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(y, axis=1)
  )
  # Four float32 terms of at most 1.
  np.testing.assert_allclose(similarity.cosine(X, y), want, atol=16 * 2**-24)
  differ = ((x > 0)[:, None] != (y > 0)).sum(-1)
  np.testing.assert_array_equal(similarity.hamming(X, y), -differ)


def test_a_zero_vector_is_near_to_nothing():
  zeros = jnp.zeros((1, D))
  assert not similarity.cosine(zeros, X).any()
  gradient = jax.grad(lambda z: similarity.cosine(z, X).sum())(zeros)
  assert np.isfinite(gradient).all()


def test_large_similarities_do_not_overflow():
  """In float32 exp(100) is infinite."""
  s, bank = 100 * jnp.tanh(S), 100 * jnp.tanh(BANK)
  got = similarity.inverted_softmax(s, bank, beta=20.0, log=True)
  s, bank = np.asarray(s, np.float64), np.asarray(bank, np.float64)
  want = 20 * s - np.logaddexp.reduce(20 * bank, axis=0)
  # Differences of numbers up to 2000, each rounded twice.
  np.testing.assert_allclose(got, want, atol=4 * 2000 * 2**-24)


def test_csls():
  s, bank = S.astype(np.float64), BANK.astype(np.float64)
  for given, over in ((None, s), (BANK, bank)):
    want = np.empty((Q, G))
    for q in range(Q):
      for g in range(G):
        near_q = np.sort(s[q])[-3:].mean()
        near_g = np.sort(over[:, g])[-3:].mean()
        want[q, g] = 2 * s[q, g] - near_q - near_g
    got = similarity.csls(S, given, k=3)
    np.testing.assert_allclose(got, want, atol=16 * 4 * 2**-24)


def test_they_are_traced_and_scanned():
  """With beta; a stream of queries keeps the banks' program."""

  @jax.jit
  def stream(s, bank, beta):
    def one(carry, row):
      out = similarity.dynamic_inverted_softmax(row[None], bank, beta=beta)
      return carry, out[0]

    return jax.lax.scan(one, (), s)[1]

  want = similarity.dynamic_inverted_softmax(S, BANK, beta=3.0)
  got = stream(S, BANK, jnp.float32(3))
  np.testing.assert_allclose(got, want, rtol=1e-5)


MATRICES = {
  "inverted_softmax": lambda **o: similarity.inverted_softmax(
    **{"similarities": S, "bank": BANK} | o
  ),
  "dynamic_inverted_softmax": lambda **o: similarity.dynamic_inverted_softmax(
    **{"similarities": S, "bank": BANK} | o
  ),
  "dual_bank": lambda **o: similarity.dual_bank(
    **{"similarities": S, "query_bank": BANK, "gallery_bank": BANK} | o
  ),
  "csls": lambda **o: similarity.csls(**{"similarities": S, "k": 2} | o),
  "hubness": lambda **o: similarity.hubness(**{"similarities": S} | o),
  "cosine": lambda **o: similarity.cosine(
    **{"queries_qd": X, "gallery_gd": X} | o
  ),
  "recall_at_k": lambda **o: similarity.recall_at_k(
    **{"similarities": X @ X.T, "query_labels": LABELS} | o
  ),
  "ranks": lambda **o: similarity.ranks(**{"similarities": S} | o),
  "class_means": lambda **o: similarity.class_means(
    **{"embeddings": X, "labels": LABELS, "num_classes": 3} | o
  ),
}


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    (
      "inverted_softmax",
      {"bank": BANK[:, :-1]},
      r"bank of shape \(9, 4\).* allowed: shape \(n, 5\)",
    ),
    ("inverted_softmax", {"beta": 0.0}, "beta=0.0; allowed: a finite .* > 0"),
    ("inverted_softmax", {"beta": -1}, "beta=-1; allowed: finite and >= 0"),
    ("inverted_softmax", {"similarities": S[0]}, "allowed: two axes"),
    ("dynamic_inverted_softmax", {"k": 6}, "k=6; allowed: an int from 1 to 5"),
    ("dynamic_inverted_softmax", {"k": 0}, "k=0; allowed: an int >= 1"),
    ("dual_bank", {"query_bank": BANK.T}, r"query_bank of shape \(5, 9\)"),
    ("dual_bank", {"gallery_bank": S[:, :2]}, r"gallery_bank of shape \(7, 2"),
    ("dual_bank", {"beta_gallery": 0}, "dual_bank: beta_gallery=0.0; allowed"),
    ("dual_bank", {"dynamic": True, "log": True}, "False with dynamic=True"),
    ("csls", {"k": 6}, "k=6; allowed: an int from 1 to 5, the size of the gal"),
    ("csls", {"query_bank": BANK[:1]}, "k=2; .* 1, the size of the query bank"),
    ("csls", {"query_bank": BANK[:, 1:]}, "query_bank of shape"),
    ("hubness", {"k": 10}, "k=10; allowed: an int from 1 to 5"),
    ("hubness", {"similarities": S.astype(int)}, "similarities of int"),
    ("hubness", {"similarities": S[:0]}, r"\(0, 5\); allowed: two axes, none"),
    ("cosine", {"gallery_gd": X[:, 1:]}, r"\(7, 4\) and a .* \(7, 3\)"),
    ("recall_at_k", {"k": 7}, "k=7; allowed: an int from 1 to 6"),
    ("recall_at_k", {"query_labels": LABELS[1:]}, r"query_labels of shape \(6"),
    ("recall_at_k", {"gallery_labels": [0.0] * Q}, "gallery_labels of float"),
    ("recall_at_k", {"similarities": S}, "without gallery_labels: .* square"),
    ("ranks", {"relevant": np.ones((Q, G))}, "relevant .* allowed: booleans"),
    ("class_means", {"labels": LABELS[1:]}, r"labels of shape \(6,\); allowed"),
    ("class_means", {"num_classes": 2}, "labels go from 0 to 2; with num_cl"),
  ],
)  # fmt: skip
def test_bad_input_is_named(name, options, message):
  with pytest.raises(errors.UserError, match=message):
    MATRICES[name](**options)


def test_what_is_exported_is_there():
  assert {"csls", "dual_bank", "welch_bound"} <= {*dir(similarity)}
  for name in set(dir(similarity)) - {"heads"}:
    assert callable(getattr(similarity, name))
  assert "prototype" in similarity.heads.names()
  assert "make" not in dir(similarity)
  with pytest.raises(AttributeError, match="'cosines'"):
    _ = similarity.cosines
