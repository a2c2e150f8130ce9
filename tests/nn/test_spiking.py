import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors
from normjax.nn import spiking

SLOPES = {
  "sigmoid": lambda x, a: a * np.exp(-a * x) / np.square(1 + np.exp(-a * x)),
  "arctan": lambda x, a: a / (2 * (1 + (np.pi * a * x / 2) ** 2)),
}
OPTIONS = (
  {},
  {"decay_input": True, "reset": "zero", "detach_reset": False},
  {"reset": "zero", "tau": 3.0, "threshold": 0.5},
  {"detach_reset": False, "surrogate": "arctan", "surrogate_alpha": 2.0},
)


def reference(
  currents,
  cotangents,
  *,
  tau=2.0,
  decay_input=False,
  threshold=1.0,
  reset="subtract",
  detach_reset=True,
  surrogate="sigmoid",
  surrogate_alpha=4.0,
):
  """Charge, fire, reset, and back through time by hand."""
  gain = 1 / tau if decay_input else 1.0
  v, charged, spikes = 0.0, [], []
  for current in currents:
    v = v - v / tau + gain * current
    s = (v >= threshold).astype(float)
    charged.append(v)
    spikes.append(s)
    v = v - s * threshold if reset == "subtract" else np.where(s, 0.0, v)
  gradient, after = np.zeros_like(currents), 0.0
  for t in reversed(range(len(currents))):
    v, s = charged[t], spikes[t]
    to_spike = cotangents[t]
    if not detach_reset:
      to_spike = to_spike - after * (threshold if reset == "subtract" else v)
    direct = after if reset == "subtract" else after * (1 - s)
    slope = SLOPES[surrogate](v - threshold, surrogate_alpha)
    to_v = direct + to_spike * slope
    gradient[t] = gain * to_v
    after = to_v * (1 - 1 / tau)
  return np.stack(spikes), gradient


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_a_transcription_forward_and_back(options):
  rng = np.random.default_rng(0)
  currents, cotangents = rng.normal(0.6, 1.0, (2, 6, 5, 3))
  with jax.enable_x64(True):
    spikes, pull = jax.vjp(spiking.LIF(**options), jnp.asarray(currents))
    (gradient,) = pull(jnp.asarray(cotangents))
  want, want_gradient = reference(currents, cotangents, **options)
  np.testing.assert_array_equal(spikes, want)
  # Both kinds occur, so that resets are seen.
  assert 0.1 < want.mean() < 0.9
  # Six steps in float64.
  np.testing.assert_allclose(gradient, want_gradient, atol=1e-13)


def test_a_potential_at_the_threshold_fires_and_a_soft_reset_keeps_the_rest():
  spikes = spiking.LIF()(jnp.asarray([1.0, 0.999, 0.5, 1.25]))
  np.testing.assert_array_equal(spikes, [1, 0, 0, 1])
  # v: 2.5, then 1.5 / 2 + 0.5 and 0.25 / 2 + 0.875, each just at 1 or above.
  spikes = spiking.LIF()(jnp.asarray([2.5, 0.5, 0.875]))
  np.testing.assert_array_equal(spikes, [1, 1, 1])
  hard = spiking.LIF(reset="zero")(jnp.asarray([2.5, 0.5, 0.875]))
  np.testing.assert_array_equal(hard, [1, 0, 1])


@pytest.mark.parametrize("surrogate", spiking.SURROGATES)
def test_a_surrogate_is_the_slope_of_its_smooth_step(surrogate):
  x, h = np.linspace(-2, 2, 41), 1e-5
  smooth = spiking.GRADED[surrogate]
  with jax.enable_x64(True):
    above, below = (
      np.asarray(smooth(jnp.asarray(x + d), 3.0)) for d in (h, -h)
    )
    slope = np.asarray(spiking.SURROGATES[surrogate](jnp.asarray(x), 3.0))
  # h^2 / 6 times a third derivative below 3^3.
  np.testing.assert_allclose(slope, (above - below) / (2 * h), atol=1e-9)
  assert smooth(0.0, 3.0) == pytest.approx(0.5)


def test_graded_neurons_have_the_gradient_of_what_they_compute():
  cells = spiking.LIF(graded=True, detach_reset=False)
  currents = np.random.default_rng(1).normal(0.6, 1.0, (4, 3))
  with jax.enable_x64(True):
    gradient = jax.grad(lambda c: jnp.sum(cells(c) ** 2))(jnp.asarray(currents))
    direction = np.random.default_rng(2).normal(size=currents.shape)
    h = 1e-5
    above, below = (
      float(jnp.sum(cells(jnp.asarray(currents + d * direction)) ** 2))
      for d in (h, -h)
    )
    gradient = np.asarray(gradient)
  slope = (above - below) / (2 * h)
  # h^2 times a third derivative of four steps: below 1e4.
  np.testing.assert_allclose(
    np.sum(gradient * direction), slope, atol=1e4 * h**2
  )


def test_bfloat16_currents_are_summed_in_float32():
  # 256 + 1 is no bfloat16 number: a bfloat16 potential would lose the 1.
  currents = jnp.asarray([256.0, 1.0], jnp.bfloat16)
  cells = spiking.LIF(tau=1e9, threshold=257.0)
  spikes = cells(currents)
  np.testing.assert_array_equal(spikes.astype(jnp.float32), [0, 1])
  assert spikes.dtype == jnp.bfloat16


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"tau": 1.0}, "tau=1.0 must be above 1"),
    ({"threshold": 0.0}, "threshold=0.0 must be above 0"),
    ({"reset": "soft"}, "reset='soft' is unknown; allowed: 'subtract', 'zero'"),
    ({"surrogate": "relu"}, "surrogate='relu' is unknown; allowed: 'sigmoid'"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    spiking.LIF(**options)
