"""Activations whose variance is one: the constants, by quadrature."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from normjax.nn import gains


def _moments(activate):
  """Mean and variance of a(z) by quadrature, between the kinks."""

  def mean(f):
    def weighted(z):
      return f(z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    return sum(
      integrate.quad(weighted, *ends, epsabs=1e-14, epsrel=1e-13)[0]
      for ends in ((-12, 0), (0, 6), (6, 12))
    )

  first = mean(activate)
  return first, mean(lambda z: (activate(z) - first) ** 2)


_ACTIVATIONS = {
  "relu": lambda z: max(z, 0.0),
  "silu": lambda z: z / (1 + math.exp(-z)),
  "gelu": lambda z: (
    0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
  ),
  "gelu_exact": lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2,
  "tanh": math.tanh,
  "selu": lambda z: (
    1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * math.expm1(z))
  ),
  "elu": lambda z: z if z > 0 else math.expm1(z),
  "celu": lambda z: z if z > 0 else math.expm1(z),
  "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
  "relu6": lambda z: min(max(z, 0.0), 6.0),
  "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
  "log_sigmoid": lambda z: -math.log1p(math.exp(-z)),
  "softplus": lambda z: math.log1p(math.exp(z)),
  "soft_sign": lambda z: z / (1 + abs(z)),
}


@pytest.mark.parametrize("name", gains.GAINS)
def test_gains_make_the_variance_one(name):
  _, variance = _moments(_ACTIVATIONS[name])
  exact, official = (gains.GAINS[name][kind] for kind in ("exact", "official"))
  np.testing.assert_allclose(exact, variance**-0.5, rtol=1e-12)
  # A Monte Carlo estimate of the authors.
  np.testing.assert_allclose(official, exact, rtol=1e-3)
  z = jnp.linspace(-3, 3, 13)
  # A handful of roundings, of tanh's argument too.
  np.testing.assert_allclose(
    gains.resolve(name, "exact")(z),
    [exact * _ACTIVATIONS[name](v) for v in np.float64(z)],
    rtol=1e-5,
    atol=1e-6,
  )


def test_the_gain_of_relu_has_a_formula():
  exact = gains.GAINS["relu"]["exact"]
  np.testing.assert_allclose(
    exact, math.sqrt(2 / (1 - 1 / math.pi)), rtol=1e-15
  )
