"""What arXiv:1706.02515 says of SELU, of its dropout, and of the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors, models
from normjax.nn import activation
from normjax.nn import dropout as dropouts

NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)
LOWEST = -1.7580993408473766  # SELU's, -lambda alpha.


def selu(x):
  """Equation 2, from the digits of the paper's code."""
  scale, alpha = 1.0507009873554804934, 1.6732632423543772848
  return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def relu(x):
  return np.maximum(x, 0)


def moments_map(function, mean, variance, omega=0.0, tau=1.0):
  """Equations 3 and 4: a layer's moments from those of the one before.

  Weights sum to omega, their squares to tau. The integrals are over 12
  deviations, in two halves because of the kink at 0.
  """
  center, spread = mean * omega, np.sqrt(variance * tau)
  first = second = 0.0
  for low, high in ((center - 12 * spread, 0.0), (0.0, center + 12 * spread)):
    z = (high - low) / 2 * NODES + (high + low) / 2
    density = np.exp(-(((z - center) / spread) ** 2) / 2)
    weights = (high - low) / 2 * WEIGHTS * density
    weights = weights / (spread * np.sqrt(2 * np.pi))
    first += np.sum(weights * function(z))
    second += np.sum(weights * function(z) ** 2)
  return first, second - first**2


def test_jax_has_the_constants_of_the_paper():
  x = np.linspace(-20, 20, 401)
  with jax.enable_x64(True):
    got = activation.resolve("selu")(jnp.asarray(x))
  # Two products and an exponential of float64.
  np.testing.assert_allclose(got, selu(x), rtol=8 * 2**-53)
  assert -dropouts.SELU_SCALE * dropouts.SELU_ALPHA == LOWEST


def test_selu_s_fixed_point_is_mean_0_and_variance_1():
  # The sums have 400 terms of size one.
  np.testing.assert_allclose(moments_map(selu, 0.0, 1.0), (0, 1), atol=1e-11)
  # Theorem 1: it attracts, also where weights are a little off.
  for mean, variance in ((0.1, 0.8), (-0.1, 1.5), (0.0, 1.2)):
    moments = mean, variance
    for _ in range(100):
      moments = moments_map(selu, *moments)
    np.testing.assert_allclose(moments, (0, 1), atol=1e-9)
    for omega, tau in ((0.1, 0.95), (-0.1, 1.1)):
      new_mean, new_variance = moments_map(selu, mean, variance, omega, tau)
      assert -0.1 < new_mean < 0.1
      assert 0.8 < new_variance < 1.5


def test_relu_and_tanh_have_no_such_point():
  # ReLU keeps the mean square at He's tau = 2, the mean does not stay.
  mean, variance = moments_map(relu, 0.0, 1.0, tau=2.0)
  np.testing.assert_allclose(mean, 1 / np.sqrt(np.pi), rtol=1e-11)
  np.testing.assert_allclose(variance + mean**2, 1.0, rtol=1e-11)
  # tanh z = z - z^3 / 3: near 0 the variance v loses 2 v^2, so that after
  # many layers it is 1 / (2 l) and falling.
  moments = 0.0, 1.0
  for _ in range(400):
    moments = moments_map(np.tanh, *moments)
  assert 0.5 / 800 < moments[1] < 2 / 800


def hidden_moments(rate=0.0, **options):
  """Means and variances of the 32 layers at the start."""
  model = models.make(
    "mlp",
    input_shape=(512,),
    num_layers=32,
    hidden_dim=512,
    norm="identity",
    dropout_rate=rate,
    **options,
  )
  x = np.random.default_rng(0).normal(size=(64, 512)).astype(np.float32)
  _, captured = nnx.capture(
    lambda m: m(x, train=True, key=jax.random.key(1)), nnx.Intermediate
  )(model)
  layers = nnx.to_pure_dict(captured)["hidden"]
  assert len(layers) == 32
  return np.array([(np.mean(h), np.var(h)) for h in layers]).T


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_deep_selu_networks_keep_their_moments(rate):
  mean, variance = hidden_moments(
    rate, activation="selu", init="lecun_normal", dropout="alpha"
  )
  assert np.abs(mean).max() < 0.1
  assert (variance > 0.8).all()
  assert (variance < 1.5).all()


@pytest.mark.parametrize(
  ("name", "init", "mean", "variance"),
  [
    # Squares stay 1 in expectation, the mean is 0.56 and more.
    ("relu", "he_normal", (0.3, 3), (0, 10)),
    # Halved by every layer: 2^-32.
    ("relu", "lecun_normal", (0, 1e-3), (0, 1e-6)),
    ("tanh", "lecun_normal", (0, 0.1), (0, 0.1)),
  ],
)
def test_relu_and_tanh_do_not(name, init, mean, variance):
  found = hidden_moments(activation=name, init=init)[:, -1]
  for value, (low, high) in zip(np.abs(found), (mean, variance), strict=True):
    assert low < value < high


@pytest.mark.parametrize(
  ("init", "variance"),
  [("he_normal", 2 / 300), ("lecun_normal", 1 / 300), ("xavier", 2 / 1000)],
)
def test_inits_are_normal_and_not_truncated(init, variance):
  model = models.make(
    "mlp", input_shape=(300,), num_layers=1, hidden_dim=700, init=init
  )
  z = np.asarray(model.layers[0].kernel[...], np.float64) / np.sqrt(variance)
  # Five deviations of a mean of 210,000 squares of normals.
  assert abs(np.mean(z**2) - 1) < 5 * np.sqrt(2 / z.size)
  # Truncated at 2 and widened, nothing would lie beyond 2.28.
  assert np.abs(z).max() > 4


# ----- Alpha dropout -----


@pytest.mark.parametrize(
  ("rate", "a", "b"),
  [(0.1, 0.9212845, 0.1619710), (0.05, 0.9548445, 0.0839356)],
)
def test_constants_are_the_official_ones(rate, a, b):
  got_a, got_b, dropped = dropouts.alpha_dropout_constants(rate)
  assert dropped == LOWEST
  np.testing.assert_allclose((got_a, got_b), (a, b), atol=5e-8)
  # The paper's short form, for the fixed point.
  q = 1 - rate
  np.testing.assert_allclose(got_a, (q + LOWEST**2 * q * rate) ** -0.5)
  np.testing.assert_allclose(got_b, -got_a * rate * LOWEST)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.3, 2.0)])
def test_alpha_dropout_keeps_mean_and_variance(rate, mean, variance):
  size = 400_000
  rng = np.random.default_rng(0)
  x = mean + np.sqrt(variance) * rng.normal(size=size)
  y = np.asarray(
    dropouts.alpha_dropout(
      jnp.asarray(x, jnp.float32),
      rate,
      jax.random.key(0),
      mean=mean,
      variance=variance,
    ),
    np.float64,
  )
  # A transcription of the official code in float64, with the same draws.
  q = 1 - rate
  a = np.sqrt(variance / (q * (rate * (LOWEST - mean) ** 2 + variance)))
  b = mean - a * (q * mean + rate * LOWEST)
  dropped = np.abs(y - (a * LOWEST + b)) < 1e-6
  want = a * np.where(dropped, LOWEST, x) + b
  # One product and one sum of numbers below 16.
  np.testing.assert_allclose(y, want, rtol=0, atol=16 * 4 * 2**-24)
  assert abs(dropped.mean() - rate) < 5 * np.sqrt(rate * q / size)
  # Five deviations of the sample's mean and variance, from the fourth moment
  # of the mixture of a normal and a point.
  c, s = a * mean + b - mean, a**2 * variance
  point = a * LOWEST + b - mean
  fourth = q * (c**4 + 6 * c**2 * s + 3 * s**2) + rate * point**4
  assert abs(y.mean() - mean) < 5 * np.sqrt(variance / size)
  deviation = np.sqrt((fourth - variance**2) / size)
  assert abs(y.var() - variance) < 5 * deviation


def test_alpha_dropout_s_gradient_and_dtype_and_evaluation():
  x = jnp.linspace(-2, 2, 64)
  key = jax.random.key(3)
  gradient = jax.grad(lambda x: dropouts.alpha_dropout(x, 0.5, key).sum())(x)
  a, b, lowest = dropouts.alpha_dropout_constants(0.5)
  y = dropouts.alpha_dropout(x, 0.5, key)
  # The point x = alpha' alone is not told apart, and is not among these.
  dropped = np.isclose(y, a * lowest + b, atol=1e-6)
  assert 16 < dropped.sum() < 48
  np.testing.assert_allclose(gradient, np.where(dropped, 0, a), rtol=1e-6)
  half = dropouts.alpha_dropout(x.astype(jnp.bfloat16), 0.5, key)
  assert half.dtype == jnp.bfloat16
  # Rounded twice to 8 bits: x, and the result; both are below 2.
  np.testing.assert_allclose(half.astype(jnp.float32), y, atol=2 * 2**-7)
  assert dropouts.alpha_dropout(x, 0.0, key) is x
  assert dropouts.alpha_dropout(x, 0.5, None) is x


def test_the_mlp_drops_by_name_and_in_training_only():
  def logits(name, **options):
    model = models.make("mlp", dropout=name, dropout_rate=0.5)
    return model(jnp.ones((2, 64)), **options)

  key = jax.random.key(0)
  for name in dropouts.TABLE:
    np.testing.assert_array_equal(
      logits(name, train=False, key=key), logits(name, train=False)
    )
  drawn = [logits(name, train=True, key=key) for name in dropouts.TABLE]
  assert np.any(drawn[0] != drawn[1])


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      {"init": "he_norm"},
      "init='he_norm'; allowed: .* Did you mean 'he_normal'",
    ),
    (
      {"dropout": "beta"},
      "dropout='beta'; allowed: 'standard', 'alpha'",
    ),
  ],
)
def test_bad_names_are_said(options, message):
  with pytest.raises(errors.UserError, match=message):
    models.make("mlp", **options)
