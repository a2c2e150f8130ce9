"""Newton-Schulz, its batching, and Muon's scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import optim
from tests.support import normal


@pytest.mark.parametrize("shape", [(3, 16, 40), (3, 40, 16)])
def test_singular_values_come_near_one(shape):
  x = normal(*shape)
  y = optim.orthogonalize(x)
  singular = np.linalg.svd(y, compute_uv=False)
  # The quintic's band for what starts above 0.01 of the Frobenius norm.
  assert (singular > 0.65).all()
  assert (singular < 1.25).all()
  # The singular vectors stay: y x^T is symmetric, its eigenvalues positive.
  product = np.asarray(y.mT @ x if shape[1] > shape[2] else y @ x.mT)
  # Errors of the size of one product of 40 terms, amplified 3.4445^5 times.
  np.testing.assert_allclose(
    product, product.mT, atol=1.2e-3 * np.abs(product).max()
  )


def test_a_zero_matrix_stays_zero():
  assert not np.any(optim.orthogonalize(jnp.zeros((1, 3, 5))))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scales_are_finite(scale):
  y = optim.orthogonalize(normal(1, 4, 6) * jnp.float32(scale))
  assert np.isfinite(y).all()
  if scale > 1:
    expected = optim.orthogonalize(normal(1, 4, 6))
    np.testing.assert_allclose(y, expected, atol=1e-3)


@pytest.mark.parametrize(
  ("scaling", "shape", "factor"),
  [
    ("spectral", (4, 9), 1.5),
    ("spectral", (9, 4), 1.0),
    ("moonlight", (4, 9), 0.6),
    ("moonlight", (9, 4), 0.6),
  ],
)
def test_scaling(scaling, shape, factor):
  g = normal(*shape)
  tx = optim.scale_by_muon(scaling=scaling, nesterov=False)
  actual, _ = tx.update(g, tx.init(g))
  expected = factor * optim.orthogonalize(0.05 * g[None])[0]
  np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


def test_one_iteration_for_all_layers():
  """Depth adds no matrix product: same shapes are stacked, up to transpose."""

  def products(num_layers):
    params = {
      str(n): {"up": {"kernel": normal(4, 6)}, "down": {"kernel": normal(6, 4)}}
      for n in range(num_layers)
    }
    tx = optim.muon(0.1)
    text = str(jax.make_jaxpr(tx.update)(params, tx.init(params), params))
    return text.count("dot_general[")

  assert products(6) == products(1) == 3


def test_stacking_does_not_mix_layers():
  params = {str(n): {"kernel": normal(4, 6, seed=n)} for n in range(3)}
  params["down"] = {"kernel": normal(6, 4, seed=9)}
  tx = optim.scale_by_muon()
  together, _ = tx.update(params, tx.init(params))
  for name, leaf in params.items():
    alone, _ = tx.update({name: leaf}, tx.init({name: leaf}))
    np.testing.assert_allclose(
      together[name]["kernel"], alone[name]["kernel"], rtol=1e-3, atol=1e-5
    )


def test_bfloat16_iteration():
  g = normal(16, 40)
  tx = optim.scale_by_muon(ns_dtype=jnp.bfloat16)
  y, _ = tx.update(g, tx.init(g))
  assert y.dtype == jnp.float32
  scale = np.sqrt(40 / 16)
  singular = np.linalg.svd(y, compute_uv=False) / scale
  assert (singular > 0.6).all()
  assert (singular < 1.3).all()


def test_learning_rate_of_the_fallback():
  params = {"kernel": normal(4, 6), "bias": normal(6)}
  # Adam's first step is the learning rate, by the gradient's sign.
  for options, rate in (({}, 0.1), ({"fallback_learning_rate": 0.01}, 0.01)):
    tx = optim.muon(0.1, **options)
    updates, _ = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(np.abs(updates["bias"]), rate, rtol=1e-4)
