"""Stable-SPAM: what it does to spikes, and at a reset."""

import jax
import jax.numpy as jnp
import numpy as np

from normjax import optim


def run(gradients, **options):
  """The size of each step, of gradients of one leaf, at a rate of 1."""
  tx = optim.stable_spam(1.0, **options)
  w = jnp.zeros_like(gradients[0])
  update, state = jax.jit(tx.update), tx.init(w)
  sizes = []
  for g in gradients:
    updates, state = update(g, state, w)
    sizes.append(np.abs(updates).max())
  return np.array(sizes), state[0]


def test_a_spike_is_clipped_to_what_was_seen():
  """One entry 1000 times its usual is as the threshold, and as Adam's after."""
  usual = jnp.ones(8)
  spiked = usual.at[0].set(1000.0)
  _, state = run([usual] * 5 + [spiked], threshold_beta=0.9)
  limit = state.threshold / (1 - 0.9**6)
  # The average has seen it: (1 - 0.9) 1000 / (1 - 0.9^6) and some.
  assert 200 < limit < 220
  _, plain = run([usual] * 5 + [spiked], threshold_beta=0.0)
  assert plain.threshold == 1000


def test_norms_are_evened_out():
  """A gradient 100 times larger, at once: the moments hardly see it."""
  small, large = jnp.ones(8), jnp.full(8, 100.0)
  _, before = run([small] * 20)
  _, after = run([small] * 20 + [large], b1=0.0)
  # By Cauchy and Schwarz n / sqrt(s) is at most the root of a^2 / d and
  # (1 - a)^2 / (1 - d), of what was before and is now: 1.202.
  assert np.abs(after.mu).max() * 8**0.5 < 1.203
  assert np.abs(before.mu).max() > 0


def test_resets_start_with_the_step():
  """The step at a reset is that of a first step: of size 1."""
  rng = np.random.default_rng(0)
  gradients = [jnp.asarray(rng.normal(size=8)) for _ in range(9)]
  sizes, state = run(gradients, reset_every=4)
  np.testing.assert_allclose(sizes[[0, 3, 7]], 1, rtol=1e-5)
  assert (sizes[[1, 2, 4, 5, 6]] < 0.999).all()
  # Their counts are not those of the limits.
  never, unreset = run(gradients, reset_every=0)
  np.testing.assert_array_equal(state.threshold, unreset.threshold)
  np.testing.assert_array_equal(state.norm, unreset.norm)
  np.testing.assert_array_equal(sizes[:3], never[:3])


def test_official_resets_forget_and_do_not_clip():
  """A step of old moments, a lost gradient, and a limit 500 times T."""
  usual, spiked = jnp.ones(8), jnp.ones(8).at[0].set(50.0)
  gradients = [usual] * 4 + [spiked]
  sizes, state = run(gradients, reset_every=4, official_reset=True)
  # m (1 - b1^4) / (1 - b1) over the root of v (1 - b2^4) / (1 - b2).
  old = (1 - 0.9**4) / 0.1 / ((1 - 0.999**4) / 0.001) ** 0.5
  np.testing.assert_allclose(sizes[3], old, rtol=1e-4)
  # One gradient, corrected as two.
  np.testing.assert_allclose(
    sizes[4], 0.1 / 0.19 / (0.001 / (1 - 0.999**2)) ** 0.5, rtol=1e-4
  )
  # 50 is below T / (1 - 0.999^2): the norm has seen all of it.
  _, ours = run(gradients, reset_every=4)
  assert state.norm > 1.9 * ours.norm


def test_the_fall_ends():
  """After cosine_steps b1 stays at what it has come to."""
  g = [jnp.ones(4), -jnp.ones(4)] * 6
  sizes, _ = run(g, cosine_steps=3, cosine_end=0.0, threshold_beta=0.0)
  # Without a momentum, each is of size about 1; with one, a twentieth.
  np.testing.assert_allclose(sizes[4:], 1, atol=0.03)
