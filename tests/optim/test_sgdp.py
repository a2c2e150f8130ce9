"""SGDP's traps: what is projected, and the decay over 1 - momentum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import optim

LR, MOMENTUM, WD = 0.1, 0.9, 0.02


def two_updates(w, gradients, **options):
  with jax.enable_x64(True):
    w = jnp.asarray(w)
    tx = optim.sgdp(LR, MOMENTUM, **options)
    state = tx.init(w)
    steps = []
    for g in gradients:
      updates, state = jax.jit(tx.update)(jnp.asarray(g), state, w)
      steps.append(np.asarray(updates))
  return steps


def tangent_pair(seed=0):
  rng = np.random.default_rng(seed)
  w, g = rng.normal(size=(2, 64, 16))
  return w, g - (w * g).sum(0) / (w * w).sum(0) * w


def test_decay_is_divided_by_one_minus_momentum():
  w, _ = tangent_pair()
  # A zero gradient is tangent: the decay has the factor wd_ratio = 0.1.
  (step,) = two_updates(w, [0 * w], weight_decay=WD)
  # ... to the rounding of 1 - 0.9.
  np.testing.assert_allclose(step, -LR * WD * 0.1 / 0.1 * w, rtol=1e-14)


def test_momentum_starts_at_zero_and_is_dampened_from_the_first_step():
  w, _ = tangent_pair()
  g = 0.5 * w  # Radial: nothing is projected.
  (step,) = two_updates(w, [g], dampening=0.25)
  np.testing.assert_allclose(step, -LR * 0.75 * g, rtol=1e-14)


@pytest.mark.parametrize("aliasing", [False, True])
def test_aliasing_projects_the_momentum_too(aliasing):
  w, tangent = tangent_pair()
  _, second = two_updates(
    w, [w, tangent], official_aliasing=aliasing, nesterov=False
  )
  # The second gradient fires the projection, which removes the radial 0.9 w
  # of the first from the step in either case.
  np.testing.assert_allclose(second, -LR * tangent, atol=1e-7)
  *_, third = two_updates(w, [w, tangent, w], official_aliasing=aliasing)
  radial = 0.0 if aliasing else MOMENTUM**2
  expected = -LR * ((1 + radial) * w + MOMENTUM * tangent)
  # What eps in w / (||w|| + eps) leaves.
  np.testing.assert_allclose(third, expected, atol=1e-7)


def test_aliasing_does_nothing_under_nesterov():
  w, tangent = tangent_pair()
  history = [w, tangent, w]
  plain = two_updates(w, history, nesterov=True)
  aliased = two_updates(w, history, nesterov=True, official_aliasing=True)
  np.testing.assert_array_equal(plain, aliased)
