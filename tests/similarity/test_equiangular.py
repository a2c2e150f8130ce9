"""Equiangular basis vectors, against a transcription in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, similarity
from normjax.similarity import equiangular

N, D, TAU = 10, 6, 0.42


def _step(v, tau, rate):
  """The sum over ordered pairs, pair by pair; each vector is in both orders."""
  gradient = np.zeros_like(v)
  for i in range(len(v)):
    for j in range(len(v)):
      cosine = v[i] @ v[j]
      if i != j and abs(cosine) > tau:
        gradient[i] += np.sign(cosine) * v[j]
        gradient[j] += np.sign(cosine) * v[i]
  v = v - rate * gradient
  return v / np.linalg.norm(v, axis=1, keepdims=True)


def test_steps_equal_a_transcription():
  v = np.random.default_rng(0).normal(size=(N, D))
  v /= np.linalg.norm(v, axis=1, keepdims=True)
  with jax.enable_x64(True):
    ours = jnp.asarray(v)
    for _ in range(4):
      v = _step(v, TAU, 0.1)
      ours = equiangular.equiangular_step(ours, TAU, 0.1)
    # Sums of at most ten float64 terms, four times.
    np.testing.assert_allclose(ours, v, atol=1e-14)
    loss = similarity.equiangular_loss(ours, TAU)
    cosines = np.abs(v @ v.T)[~np.eye(N, dtype=bool)]
    np.testing.assert_allclose(loss, np.maximum(cosines - TAU, 0).sum())
    np.testing.assert_allclose(similarity.largest_cosine(ours), cosines.max())


def test_the_bound_is_that_of_a_simplex():
  """Of d + 1 vectors, which reach it, all cosines are -1 / d."""
  for d in (1, 3, 8):
    assert similarity.welch_bound(d + 1, d) == pytest.approx(1 / d)
  assert similarity.welch_bound(26, 8) == pytest.approx(0.3)
  assert similarity.welch_bound(1000, 100) == pytest.approx(0.0949, abs=5e-5)
  assert similarity.welch_bound(8, 8) == similarity.welch_bound(3, 8) == 0


def test_vectors_are_within_tau_and_the_same_again():
  found = similarity.equiangular_basis(N, D, TAU)
  cosines = np.abs(found.astype(np.float64) @ found.T)
  np.testing.assert_allclose(np.diag(cosines), 1, atol=8 * 2**-24)
  assert TAU / 2 < cosines[~np.eye(N, dtype=bool)].max() <= TAU + 1e-4 + 1e-6
  equiangular.equiangular_basis.cache_clear()
  np.testing.assert_array_equal(similarity.equiangular_basis(N, D, TAU), found)
  other = similarity.equiangular_basis(N, D, TAU, seed=1)
  assert np.abs(other - found).max() > 0.1


def test_they_are_made_inside_a_trace():
  def made(x):
    return x + similarity.equiangular_basis(4, 4)

  vectors = jax.jit(made)(jnp.zeros((4, 4)))
  np.testing.assert_allclose(vectors @ vectors.T, np.eye(4), atol=1e-6)


@pytest.mark.parametrize(
  ("arguments", "options", "message"),
  [
    ((26, 8, 0.29), {}, "tau=0.29; .* from the Welch bound, 0.3 of 26"),
    ((26, 8), {}, "tau=None; .* from the Welch bound, 0.3 of 26"),
    ((26, 8, 1.0), {}, "tau=1.0; .* to below 1"),
    ((4, 4, -0.1), {}, "tau=-0.1; .* from the Welch bound, 0 of"),
    ((26, 8, float("nan")), {}, "tau=nan; allowed: a finite number"),
    ((26, 8, 0.31), {"max_steps": 3}, "tau=0.31 was not reached .* after 3 "),
    ((0, 8), {}, "count=0; allowed: an int >= 1"),
    ((4, 4), {"seed": -1}, "seed=-1; allowed: an int >= 0"),
  ],
)  # fmt: skip
def test_what_cannot_be_is_refused(arguments, options, message):
  with pytest.raises(errors.UserError, match=message):
    similarity.equiangular_basis(*arguments, **options)
