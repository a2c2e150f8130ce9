"""Options of layer_norm and rms_norm: gain about 1, eps, share, statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms

UNIT = 2**-24


def normal(shape, seed=0):
  """Float64 numbers; to be used under jax.enable_x64."""
  return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_zero_centred_is_plain_with_one_more(name):
  x, scale = normal((3, 16)), normal(16, 1)
  plain = norms.make(name)
  centred = norms.make(name, zero_centered=True)
  assert not centred.init((16,))["params"]["scale"].any()
  with jax.enable_x64(True):
    rest = plain.init((16,), "float64")["params"]

    def run(norm, scale):
      def loss(scale, x):
        y, _ = norm.apply({"params": {**rest, "scale": scale}}, x)
        return jnp.sum(jnp.sin(y)), y

      return jax.value_and_grad(loss, (0, 1), has_aux=True)(
        jnp.asarray(scale), jnp.asarray(x)
      )

    jax.tree.map(
      np.testing.assert_array_equal,
      run(centred, scale),
      run(plain, 1 + scale),
    )


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_zero_centred_keeps_the_bits_of_a_narrow_scale(name):
  """1 + 2^-10 is not a bfloat16; the sum is made in float32."""
  norm = norms.make(name, zero_centered=True)
  params = norm.init((16,), jnp.bfloat16)["params"]
  x = jnp.float32(normal((2, 16)))
  ones, _ = norm.apply({"params": params}, x)
  params["scale"] = jnp.full((16,), 2**-10, jnp.bfloat16)
  y, _ = norm.apply({"params": params}, x)
  np.testing.assert_allclose(y, ones * (1 + 2**-10), rtol=4 * UNIT, atol=0)


@pytest.mark.parametrize(
  ("eps", "inside"), [(1e-5, 0.0316), (1e-6, 0.0995), (1e-8, 0.7071)]
)
def test_eps_counts_where_activations_are_small(eps, inside):
  """An rms of 1e-4 comes out as 1 / sqrt(1 + eps / 1e-8), not at 1."""
  x = normal((64,))
  x = jnp.float32(1e-4 * x / np.sqrt(np.mean(x**2)))

  def rms(**options):
    norm = norms.make("rms_norm", eps=eps, **options)
    y, _ = norm.apply(norm.init((64,)), x)
    return float(jnp.sqrt(jnp.mean(y * y)))

  # The figures have four decimals; float32 adds 64 u at most.
  assert rms() == pytest.approx(inside, abs=1e-4)
  assert rms() == pytest.approx(1 / np.sqrt(1 + eps / 1e-8), rel=64 * UNIT)
  outside = rms(eps_placement="outside")
  assert outside == pytest.approx(1 / (1 + eps / 1e-4), rel=64 * UNIT)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_outside_has_a_finite_gradient_where_the_root_is_zero(name, value):
  """At a constant row of layer_norm and at the zero row of rms_norm.

  The slope there is that of x / eps, less the mean for layer_norm.
  """
  norm = norms.make(name, eps=0.5, eps_placement="outside")
  x = jnp.full((1, 4), value)
  jacobian = jax.jacobian(lambda x: norm.apply(norm.init((4,)), x)[0])(x)
  assert np.isfinite(jacobian).all()
  if name == "layer_norm" or not value:
    expected = np.eye(4) - (0.25 if name == "layer_norm" else 0)
    # A handful of roundings of numbers up to 2.
    np.testing.assert_allclose(
      jacobian[0, :, 0], expected / 0.5, rtol=0, atol=16 * UNIT
    )


@pytest.mark.parametrize(
  ("share", "size"), [(0.0625, 7), (0.07, 7), (0.071, 8), (1e-6, 1), (0.29, 29)]
)
def test_partial_reads_the_first_features_only(share, size):
  """0.07 * 100 is a little above 7 as a float; it counts as 7."""
  norm = norms.make("rms_norm", partial=share)
  variables = norm.init((100,))
  x = jnp.float32(normal((100,)))
  y, _ = norm.apply(variables, x)
  first = np.float64(x[:size])
  expected = np.float64(x) / np.sqrt(np.mean(first**2) + 1e-6)
  np.testing.assert_allclose(y, expected, rtol=(size + 16) * UNIT, atol=0)
  changed, _ = norm.apply(variables, x.at[size:].mul(5))
  np.testing.assert_array_equal(changed[:size], y[:size])
  changed, _ = norm.apply(variables, x.at[size - 1].add(5))
  assert (changed[size:] != y[size:]).all()


def test_one_pass_loses_at_large_means():
  """At mean 1e4 and spread 1 a variance from E[x^2] - E[x]^2 says nothing.

  With u = 2^-24 the two squares, near 1e8, are each rounded by up to u 1e8 = 6,
  six times the variance. Some rows then have a variance of 0, and come out as
  large as 1 / sqrt(eps) = 1,000 allows; two passes stay near 1.
  """
  x = jnp.float32(1e4 + normal((256, 64)))
  largest = {}
  for statistics in ("two_pass", "one_pass"):
    norm = norms.make("layer_norm", statistics=statistics)
    y, _ = norm.apply(norm.init((64,)), x)
    largest[statistics] = float(jnp.abs(y).max())
  # No value of 64 lies further than sqrt(63) spreads from their mean.
  assert largest["two_pass"] < np.sqrt(63) < 100 < largest["one_pass"] < 1e5


def test_one_pass_is_the_same_formula():
  x = normal((5, 32))
  with jax.enable_x64(True):
    results = []
    for statistics in ("two_pass", "one_pass"):
      norm = norms.make("layer_norm", statistics=statistics)
      y, _ = norm.apply(norm.init((32,), "float64"), jnp.asarray(x))
      results.append(np.asarray(y))
  # 32 terms, u = 2^-53, squares no larger than ten times the variance.
  np.testing.assert_allclose(*results, rtol=0, atol=32 * 2**-53 * 10)


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    (
      {"name": "rms_norm", "zero_centered": True, "use_scale": False},
      "use_scale=False leaves it out",
    ),
    ({"name": "rms_norm", "partial": 0}, "partial=0; .* > 0 and <= 1"),
    ({"name": "rms_norm", "partial": 6.25}, r"partial=6.25; allowed: .* <= 1"),
    (
      {"name": "rms_norm", "eps_placement": "before"},
      "='before'; allowed: 'inside', 'outside'",
    ),
    (
      {"name": "rms_norm", "partial": 0.5, "impl": "xla"},
      "impl='xla' .* leave impl out",
    ),
    (
      {"name": "layer_norm", "statistics": "fast"},
      "='fast'; allowed: 'two_pass', 'one_pass'",
    ),
  ],
)
def test_bad_options_say_what_is_allowed(spec, message):
  with pytest.raises(errors.UserError, match=message):
    norms.resolve(spec)
