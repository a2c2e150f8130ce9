"""Every implementation of seednorm against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import dispatch
from kernels_pallas.seednorm import seednorm
from tests import products
from tests.kernels_pallas import contract


def transcription(x, alpha, beta, scale, dy, *, eps, divisor):
  """The result and its gradients in float64, written out."""
  rows = tuple(range(x.ndim - 1))
  r = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
  t = np.tanh((x * beta).sum(-1, keepdims=True) / divisor)
  n, gain = x * r, t * alpha + scale
  dz = (dy * n * alpha).sum(-1, keepdims=True) * (1 - t**2) / divisor
  g = dy * gain
  dx = r * (g - n * (g * n).mean(-1, keepdims=True)) + dz * beta
  sums = ((dy * n * t).sum(rows), (dz * x).sum(rows), (dy * n).sum(rows))
  return n * gain, dx, *sums


class TestContract(contract.Contract):
  """Against the formulas above."""

  name = "seednorm"
  transcription = staticmethod(transcription)


def test_heads_are_the_references():
  x, v = jnp.ones((4, 128)), jnp.ones(128)
  with (
    products.compiled_for("gpu"),
    pytest.raises(dispatch.UnsupportedError, match="one head, not 2"),
  ):
    jax.eval_shape(lambda: seednorm(x, v, v, v, num_heads=2, impl="mosaic_gpu"))
  y = seednorm(x, v, v, v, divisor=64.0, num_heads=2)
  np.testing.assert_allclose(y, 1 + np.tanh(1.0), rtol=1e-5)


@pytest.mark.parametrize(
  ("vector", "error"), [(None, TypeError), (jnp.ones(1), ValueError)]
)
def test_wrong_input(vector, error):
  v = jnp.ones(128)
  with pytest.raises(error, match="seednorm needs"):
    seednorm(jnp.ones((4, 128)), v, vector, v)
