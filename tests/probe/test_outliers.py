"""Numbers of streams against loops in NumPy, float64."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from normjax import probe
from tests import support

# float32 sums of at most 96 terms: 96 * 2^-24 relative, and the fourth power.
RTOL = 4e-5
SHAPE = (3, 4, 8)
REAL = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]], bool)


def _stream(shape=SHAPE):
  x = np.asarray(support.normal(*shape), np.float64)
  x[1, 0, ..., 5] = -30.0
  return x.astype(np.float32).astype(np.float64)


def _tokens(x, real, position=None):
  """The real tokens, of one position or of all."""
  return [
    x[b, t]
    for b in range(x.shape[0])
    for t in range(x.shape[1])
    if real[b, t] and position in (None, t)
  ]


def _variance(tokens):
  return np.mean([np.mean(v**2) - np.mean(v) ** 2 for v in tokens])


def _kurtosis(tokens):
  d = len(tokens[0])
  squares = [np.mean([v[j] ** 2 for v in tokens]) for j in range(d)]
  return np.mean([s**2 for s in squares]) / np.mean(squares) ** 2


def _max_over_median(tokens):
  ratios = []
  for v in tokens:
    ordered = sorted(abs(v))
    half = len(ordered) // 2
    ratios.append(ordered[-1] / ((ordered[half - 1] + ordered[half]) / 2))
  return np.mean(ratios)


PAIRS = [
  (probe.variance, _variance),
  (probe.kurtosis, _kurtosis),
  (probe.max_over_median, _max_over_median),
]


@pytest.mark.parametrize(("function", "wanted"), PAIRS)
@pytest.mark.parametrize("real", [None, REAL])
def test_profiles(function, wanted, real):
  x = _stream()
  counted = np.ones(SHAPE[:2], bool) if real is None else real
  given = None if real is None else jnp.asarray(real)
  found = function(jnp.asarray(x, jnp.float32), given)
  np.testing.assert_allclose(
    found.overall, wanted(_tokens(x, counted)), rtol=RTOL
  )
  positions = [wanted(_tokens(x, counted, t)) for t in range(SHAPE[1])]
  np.testing.assert_allclose(found.by_position, positions, rtol=RTOL)


def test_pixels_are_tokens():
  x = _stream((2, 3, 4, 8))
  found = probe.variance(jnp.asarray(x, jnp.float32))
  assert found.by_position.shape == (12,)
  np.testing.assert_allclose(
    found.overall, _variance(list(x.reshape(-1, 8))), rtol=RTOL
  )


def test_the_range_of_kurtosis():
  even = jnp.ones((1, 2, 16))
  single = jnp.zeros((1, 2, 16)).at[..., 3].set(1e15)
  assert float(probe.kurtosis(even).overall) == 1
  # Squared twice, 1e15 would leave the range of float32.
  assert float(probe.kurtosis(single).overall) == 16


def test_massive_activations_and_where():
  x = np.full((2, 3, 8), 0.1, np.float32)
  x[1, 0, 5] = -400.0
  x[0, 2, 3] = 150.0
  x[1, 2, 7] = 99.0  # Below 100.
  found = probe.massive(jnp.asarray(x), count=2)
  assert found["num_massive"] == 2
  np.testing.assert_allclose(found["median"], 0.1, rtol=1e-6)
  assert found["largest"] == [
    {"example": 1, "position": 0, "dimension": 5, "value": -400.0},
    {"example": 0, "position": 2, "dimension": 3, "value": 150.0},
  ]
  json.dumps(found)
  # Large, but not beside the median.
  assert probe.massive(jnp.asarray(x + 1))["num_massive"] == 0
  real = jnp.asarray([[1, 1, 1], [0, 1, 1]], bool)
  masked = probe.massive(jnp.asarray(x), real, count=1)
  assert masked["num_massive"] == 1
  assert masked["largest"][0]["value"] == 150.0


def test_angular_distance():
  x = np.asarray(support.normal(5, 16, seed=1), np.float64)
  y = np.asarray(support.normal(5, 16, seed=2), np.float64)
  wanted = [
    np.arccos(u @ v / np.sqrt(u @ u) / np.sqrt(v @ v)) / np.pi
    for u, v in zip(x, y, strict=True)
  ]
  found = probe.distance(jnp.asarray(x), jnp.asarray(y))
  np.testing.assert_allclose(found, np.mean(wanted), rtol=1e-6)
  # An angle of 1e-4, where arccos in float32 would say 0 or 3.5e-4.
  u = jnp.asarray([1.0, 0.0])
  v = jnp.asarray([np.cos(1e-4), np.sin(1e-4)])
  np.testing.assert_allclose(probe.distance(u, v), 1e-4 / np.pi, rtol=1e-3)
  assert float(probe.distance(u, -u)) == 1


def test_distances_are_by_depth_and_number_of_blocks():
  a, b = jnp.asarray([[1.0, 0.0]]), jnp.asarray([[0.0, 1.0]])
  wide = jnp.ones((1, 3))
  assert probe.distances([a, b, -a, wide]) == [
    [0.5, 1.0, None],
    [0.5, None],
    [None],
  ]


def test_the_last_real_token():
  x = jnp.arange(3 * 4 * 2, dtype=jnp.float32).reshape(3, 4, 2)
  found = probe.last_tokens(x, jnp.asarray(REAL))
  np.testing.assert_array_equal(found, [x[0, 3], x[1, 2], x[2, 0]])
  np.testing.assert_array_equal(probe.last_tokens(x), x[:, 3])


def test_the_sink_rate_counts_heads():
  masses = [jnp.asarray([0.9, 0.1]), None, jnp.asarray([0.31, 0.3])]
  assert float(probe.sink_rate(masses)) == 0.5
  assert float(probe.sink_rate(masses, threshold=0.05)) == 1


def test_divergence_in_nats():
  p = np.array([[2.0, 0.0, 1.0], [0.0, 0.0, 3.0]])
  q = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 3.0]])

  def softmax(z):
    return np.exp(z) / np.exp(z).sum()

  wanted = [
    sum(a * np.log(a / b) for a, b in zip(softmax(x), softmax(y), strict=True))
    for x, y in zip(p, q, strict=True)
  ]
  found = probe.divergence(jnp.asarray(p), jnp.asarray(q))
  np.testing.assert_allclose(found, np.mean(wanted), rtol=1e-5)
  weighted = probe.divergence(
    jnp.asarray(p), jnp.asarray(q), jnp.asarray([1.0, 0.0])
  )
  np.testing.assert_allclose(weighted, wanted[0], rtol=1e-5)
