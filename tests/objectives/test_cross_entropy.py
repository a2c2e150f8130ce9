import jax.numpy as jnp
import numpy as np
import optax

from normjax.objectives import cross_entropy


def _data():
  generator = np.random.default_rng(0)
  logits = generator.normal(size=(6, 5)) * 3
  targets = generator.integers(0, 5, size=6)
  weight = np.array([1, 1, 0, 1, 0.5, 1])
  return logits, targets, weight


def test_equals_a_float64_transcription():
  logits, targets, weight = _data()
  log_normalizer = np.log(np.exp(logits).sum(-1))
  log_probability = logits - log_normalizer[:, None]
  nll = -log_probability[np.arange(6), targets]
  smoothed = 0.9 * nll - 0.1 * log_probability.mean(-1)
  want = {
    "objective": (weight * (smoothed + 1e-2 * log_normalizer**2)).sum(),
    "loss": (weight * nll).sum(),
    "accuracy": (weight * (logits.argmax(-1) == targets)).sum(),
  }
  got = cross_entropy.weighted_sums(
    jnp.asarray(logits, jnp.float32),
    jnp.asarray(targets),
    jnp.asarray(weight, jnp.float32),
    label_smoothing=0.1,
    z_loss=1e-2,
  )
  for name, value in want.items():
    # Five float32 terms of size ~10, each good to a few 2**-24.
    np.testing.assert_allclose(got[name], value, rtol=1e-6, err_msg=name)


def test_plain_loss_equals_optax():
  logits, targets, weight = _data()
  logits, targets = jnp.asarray(logits, jnp.float32), jnp.asarray(targets)
  theirs = optax.losses.softmax_cross_entropy_with_integer_labels(
    logits, targets
  )
  got = cross_entropy.weighted_sums(logits, targets, jnp.asarray(weight))
  np.testing.assert_allclose(got["loss"], (theirs * weight).sum(), rtol=1e-6)
  np.testing.assert_array_equal(got["objective"], got["loss"])


def test_padding_counts_for_nothing():
  logits, targets, weight = _data()
  spoiled = logits.copy()
  spoiled[2] = 1e4
  for name, value in cross_entropy.weighted_sums(
    jnp.asarray(spoiled), jnp.asarray(targets), jnp.asarray(weight)
  ).items():
    want = cross_entropy.weighted_sums(
      jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(weight)
    )[name]
    np.testing.assert_array_equal(value, want)
