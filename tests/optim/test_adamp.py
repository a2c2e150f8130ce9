"""AdamP's projection: when it fires, what it removes, what it spares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import optim

LR, WD = 0.1, 0.5


def first_update(w, g, **options):
  """The first update, float64, and what AdamW without projection does."""
  with jax.enable_x64(True):
    w, g = jnp.asarray(w), jnp.asarray(g)
    tx = optim.adamp(LR, weight_decay=WD, **options)
    updates, _ = jax.jit(tx.update)(g, tx.init(w), w)
    # At t = 1 Adam's direction is g / (|g| + eps).
    adam = -LR * np.asarray(g) / (np.abs(g) + 1e-8)
    return np.asarray(updates), adam


def random_pair(shape=(64, 16), seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=shape), rng.normal(size=shape)


def tangent(w, g, axis):
  along = (w * g).sum(axis, keepdims=True) / (w * w).sum(axis, keepdims=True)
  return g - along * w


def radial(w, step, axis):
  return np.abs((w * step).sum(axis)) / np.linalg.norm(w, axis=axis)


def test_tangent_gradient_fires_the_channel_view():
  w, g = random_pair()
  updates, _ = first_update(w, tangent(w, g, 0))
  step = updates + LR * WD * 0.1 * w  # wd_ratio 0.1.
  # What eps in ŵ leaves: 2 eps / ||w|| of the radial part.
  assert radial(w, step, 0).max() < 1e-8
  assert radial(w, updates, 0).max() > 1e-3


def test_random_gradient_is_adamw():
  w, g = random_pair(seed=3)
  updates, adam = first_update(w, g)
  np.testing.assert_allclose(updates, adam - LR * WD * w, rtol=1e-9)


def test_one_aligned_channel_blocks_the_channel_view():
  w, g = random_pair()
  g = tangent(w, g, 0)
  g[:, 0] = w[:, 0]  # A cosine of 1.
  updates, adam = first_update(w, g)
  np.testing.assert_allclose(updates, adam - LR * WD * w, rtol=1e-9)


def test_layer_view_comes_second():
  w, g = random_pair()
  g = tangent(w, g, None)  # Tangent to the layer, not to its channels.
  updates, _ = first_update(w, g)
  step = updates + LR * WD * 0.1 * w
  assert radial(w, step, None) < 1e-8
  assert radial(w, step, 0).max() > 1e-3


def test_zero_weight_steps_as_adam():
  _, g = random_pair()
  w = np.zeros_like(g)
  updates, adam = first_update(w, g)
  np.testing.assert_allclose(updates, adam, rtol=1e-12)


def test_zero_gradient_decays_by_the_ratio():
  w, g = random_pair()
  updates, _ = first_update(w, 0 * g, wd_ratio=0.25)
  np.testing.assert_allclose(updates, -LR * WD * 0.25 * w, rtol=1e-12)


def test_vectors_decay_in_full():
  w = np.arange(1.0, 5.0)
  updates, _ = first_update(w, 0 * w)
  np.testing.assert_allclose(updates, -LR * WD * w, rtol=1e-12)


def test_an_embedding_s_channel_is_a_token():
  w, g = random_pair((16, 64))
  with jax.enable_x64(True):
    params = {"embed": {"embedding": jnp.asarray(w)}}
    gradient = {"embed": {"embedding": jnp.asarray(tangent(w, g, 1))}}
    tx = optim.adamp(LR)
    updates, _ = jax.jit(tx.update)(gradient, tx.init(params), params)
  assert radial(w, np.asarray(updates["embed"]["embedding"]), 1).max() < 1e-8


def test_a_convolution_s_channel_is_a_filter():
  w, g = random_pair((3, 3, 8, 16))
  updates, _ = first_update(w, tangent(w, g, (0, 1, 2)))
  step = updates + LR * WD * 0.1 * w
  flat = w.reshape(-1, 16), step.reshape(-1, 16)
  assert radial(*flat, 0).max() < 1e-8


def test_stacked_tensors_decide_for_themselves():
  w, g = random_pair((2, 64, 16))
  g[0] = tangent(w[0], g[0], 0)
  updates, _ = first_update(w, g)
  for n in range(2):
    alone, _ = first_update(w[n], g[n])
    np.testing.assert_allclose(updates[n], alone, rtol=1e-12)
  assert radial(w[0], updates[0] + LR * WD * 0.1 * w[0], 0).max() < 1e-8


def test_dims_switch_the_projection_off():
  w, g = random_pair()
  updates, adam = first_update(w, tangent(w, g, 0), dims=lambda _: None)
  np.testing.assert_allclose(updates, adam - LR * WD * w, rtol=1e-6)


def test_needs_params():
  tx = optim.adamp(LR)
  w = jnp.ones((2, 2))
  with pytest.raises(ValueError, match="adamp: update needs params"):
    tx.update(w, tx.init(w))
