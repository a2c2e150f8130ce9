"""crms_norm, scale_norm, l2_norm: identities, zero vectors, bad sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms


def run(name, x, dtype="float64", **options):
  """The norm at its initial parameters."""
  norm = norms.make(name, **options)
  return norm.apply(norm.init(x.shape[-1:], dtype), jnp.asarray(x))[0]


@pytest.mark.parametrize("size", [3, 4, 65])
def test_crms_norm_is_rms_norm_and_layer_norm_of_the_whole(size):
  """arXiv:2305.14858: the last of d features that sum to 0 can be left out."""
  x = np.random.default_rng(size).normal(2, 3, size=(7, size))
  x -= x.mean(-1, keepdims=True)
  with jax.enable_x64(True):
    short = run("crms_norm", x[:, :-1], eps=1e-5)
    for name in ("rms_norm", "layer_norm"):
      whole = run(name, x, eps=1e-5)
      # 65 terms of 2^-53 are 7e-15.
      np.testing.assert_allclose(short, whole[:, :-1], rtol=0, atol=1e-12)


def test_crms_norm_divides_by_the_size_of_the_whole():
  """The divisor is d, one more than the features: 3 here."""
  y = run("crms_norm", np.float32([1.0, 2.0]), "float32", eps=1e-6)
  root = np.sqrt((1 + 4 + 9) / 3 + 1e-6)
  np.testing.assert_allclose(y, [1 / root, 2 / root], rtol=8 * 2**-24)


def test_crms_norm_of_one_feature_says_what_to_change():
  norm = norms.make("crms_norm")
  with pytest.raises(errors.UserError, match="d - 1 = 1 .* 2 features or more"):
    norm.init((1,))
  free = norms.make("crms_norm", use_scale=False)
  with pytest.raises(errors.UserError, match="take rms_norm"):
    free.apply({}, jnp.ones((4, 1)))


def test_scale_norm_starts_as_rms_norm():
  """sqrt(d) x / |x| is x / rms(x); eps = 1e-6 counts for 1e-6 / 2 at rms 1."""
  x = np.float32(np.random.default_rng(0).normal(size=(5, 32)))
  norm = norms.make("scale_norm")
  scale = norm.init((32,))["params"]["scale"]
  assert scale.shape == (1,)
  assert scale[0] == np.float32(np.sqrt(32))
  y = run("scale_norm", x, "float32")
  # |y| is sqrt(32); 32 terms and a few roundings.
  np.testing.assert_allclose(
    np.linalg.norm(y, axis=-1), np.sqrt(32), rtol=48 * 2**-24
  )
  np.testing.assert_allclose(y, run("rms_norm", x, "float32"), rtol=4e-6)


def test_scale_norm_divides_by_eps_at_least():
  x = jnp.zeros((2, 16)).at[1, 3].set(1e-3)
  norm = norms.make("scale_norm", eps=0.5)
  jacobian = jax.jacobian(lambda x: norm.apply(norm.init((16,)), x)[0])(x)
  # Below the floor it is linear: sqrt(d) / eps = 8.
  for row in (0, 1):
    np.testing.assert_array_equal(jacobian[row, :, row], 8 * np.eye(16))


@pytest.mark.parametrize("use_scale", [False, True])
def test_l2_norm_of_a_zero_vector_is_zero_with_a_zero_gradient(use_scale):
  x = jnp.zeros((3, 8)).at[1].set(2.0)
  norm = norms.make("l2_norm", use_scale=use_scale)
  variables = norm.init((8,))
  assert bool(variables["params"]) == use_scale

  def loss(params, x):
    y, _ = norm.apply({"params": params}, x)
    return jnp.sum(jnp.cos(y) + y * jnp.arange(8.0)), y

  (params, dx), y = jax.grad(loss, (0, 1), has_aux=True)(variables["params"], x)
  for leaf in jax.tree.leaves((params, dx, y)):
    assert np.isfinite(leaf).all()
  for row in (0, 2):
    np.testing.assert_array_equal(y[row], 0)
    np.testing.assert_array_equal(dx[row], 0)
  # 1 / sqrt(8), to the roundings of 8 terms.
  np.testing.assert_allclose(y[1], 1 / np.sqrt(8), rtol=16 * 2**-24)
  assert np.abs(dx[1]).max() > 0.1


def test_l2_norm_with_eps_is_linear_at_zero():
  norm = norms.make("l2_norm", eps=0.25)
  jacobian = jax.jacobian(lambda x: norm.apply({}, x)[0])(jnp.zeros(4))
  np.testing.assert_array_equal(jacobian, 2 * np.eye(4))


@pytest.mark.parametrize("length", [1e-25, 1e-18, 1e15])
def test_l2_norm_of_short_and_long_vectors(length):
  """Squares below float32's least normal number count as 0, not as NaN."""
  x = jnp.full((4,), length / 2, jnp.float32)
  y, pull = jax.vjp(lambda x: norms.make("l2_norm").apply({}, x)[0], x)
  (dx,) = pull(jnp.ones(4).at[0].set(0))
  np.testing.assert_allclose(y, 0 if length < 1e-19 else 0.5, rtol=8 * 2**-24)
  assert np.isfinite(dx).all()
  assert np.abs(dx).max() <= 1 / length


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ({"name": "scale_norm", "eps": 0}, "eps=0; allowed: .* > 0"),
    ({"name": "l2_norm", "eps": -1e-6}, "eps=-1e-06; allowed: .* >= 0"),
    ({"name": "crms_norm", "eps": 0}, "eps=0; allowed: .* > 0"),
  ],
)
def test_bad_options_say_what_is_allowed(spec, message):
  with pytest.raises(errors.UserError, match=message):
    norms.resolve(spec)
