"""dyt and derf: slopes, bounds and their relatives."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms
from normjax.norms import pointwise
from tests.norms import references_basics

# The slope at 0, and the limits on either side.
FACTS = {
  "tanh": (1, -1, 1),
  "erf": (2 / math.sqrt(math.pi), -1, 1),
  "hardtanh": (1, -1, 1),
  "sigmoid": (0.25, 0, 1),
  "isru": (1, -1, 1),
  "smoothsign": (1, -1, 1),
  "arctan": (2 / math.pi, -1, 1),
  "satursin": (1, -1, 1),
}


def test_every_map_is_known():
  assert set(FACTS) == set(pointwise.FUNCTIONS) == set(references_basics.MAPS)


@pytest.mark.parametrize("name", FACTS)
def test_map(name):
  slope, low, high = FACTS[name]
  function = pointwise.FUNCTIONS[name]
  with jax.enable_x64(True):
    u = jnp.linspace(-6.3, 6.3, 127)
    # A few units of roundoff; tanh and erf of XLA are good to about 4.
    np.testing.assert_allclose(
      function(u),
      references_basics.MAPS[name](np.asarray(u)),
      rtol=0,
      atol=16 * 2**-53,
    )
    slopes = jax.vmap(jax.grad(function))(u)
    at_zero = jax.grad(function)(jnp.float64(1e-9))
    ends = function(jnp.array([-1e9, 1e9], jnp.float64))
  assert np.isfinite(slopes).all()
  assert (np.asarray(slopes) >= 0).all()
  # f''' and f'' are below 3: the slope at 1e-9 is that at 0.
  np.testing.assert_allclose(at_zero, slope, rtol=1e-8)
  # The slowest, arctan and smoothsign, are within 1 / u.
  np.testing.assert_allclose(ends, [low, high], rtol=0, atol=2e-9)


@pytest.mark.parametrize(
  ("name", "derivative"),
  [
    ("dyt", lambda u: 1 / math.cosh(u) ** 2),
    ("derf", lambda u: 2 / math.sqrt(math.pi) * math.exp(-u * u)),
  ],
)
def test_derivatives(name, derivative):
  """dy/dx = scale alpha f'(alpha x), dy/dalpha = scale x f', dy/dshift too."""
  norm = norms.make(name, alpha_init=0.8)
  with jax.enable_x64(True):
    params = norm.init((5,), "float64")["params"]
    params["scale"] = params["scale"] * 3
    x = np.linspace(-2, 2, 5)
    gradient, dx = jax.grad(
      lambda params, x: norm.apply({"params": params}, x)[0].sum(), (0, 1)
    )(params, jnp.asarray(x))
    slopes = np.array([derivative(0.8 * value) for value in x])
    close = functools.partial(
      np.testing.assert_allclose, rtol=0, atol=64 * 2**-53
    )
    close(dx, 3 * 0.8 * slopes)
    close(gradient["alpha"], [3 * (x * slopes).sum()])
    if name == "derf":
      close(gradient["shift"], [3 * slopes.sum()])


def test_starts():
  """arXiv:2503.10622 and the code of arXiv:2512.10938."""
  params = norms.make("dyt").init((3,))["params"]
  assert {k: v.tolist() for k, v in params.items()} == {
    "alpha": [0.5],
    "scale": [1, 1, 1],
    "bias": [0, 0, 0],
  }
  params = norms.make("derf").init((3,))["params"]
  assert params["alpha"].tolist() == [0.5]
  assert params["shift"].tolist() == [0]
  assert "shift" not in norms.make("derf", shift_init=None).init((3,))["params"]


def test_isru_is_dyisru():
  """arXiv:2503.21708: sqrt(d) x / sqrt(beta + x^2)."""
  beta, size = 301.1, 16
  norm = norms.make("dyt", function="isru", alpha_init=beta**-0.5)
  with jax.enable_x64(True):
    params = norm.init((size,), "float64")["params"]
    params["scale"] = params["scale"] * math.sqrt(size)
    x = 20 * np.random.default_rng(0).normal(size=(4, size))
    y, _ = norm.apply({"params": params}, jnp.asarray(x))
  expected = math.sqrt(size) * x / np.sqrt(beta + x**2)
  np.testing.assert_allclose(y, expected, rtol=16 * 2**-53)


def test_output_of_unit_inputs():
  """Smaller than a norm's: 0.42 at alpha 0.5, 0.63 at 1."""
  x = jnp.float32(np.random.default_rng(0).normal(size=(64, 1024)))
  for alpha, rms in ((0.5, 0.42), (1.0, 0.63)):
    norm = norms.make("dyt", alpha_init=alpha)
    y, _ = norm.apply(norm.init((1024,)), x)
    # Two decimals; 65,536 draws move the third.
    assert float(jnp.sqrt(jnp.mean(y * y))) == pytest.approx(rms, abs=5e-3)


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ({"name": "dyt", "function": "relu"}, "function='relu'; allowed: 'tanh'"),
    ({"name": "dyt", "shift_init": "0"}, "shift_init='0'; allowed: a finite"),
    (
      {"name": "derf", "alpha_init": float("inf")},
      "derf: alpha_init=inf;",
    ),
    ({"name": "derf", "function": "tanh"}, "no option 'function'"),
  ],
)
def test_bad_options_say_what_is_allowed(spec, message):
  with pytest.raises(errors.UserError, match=message):
    norms.resolve(spec)
