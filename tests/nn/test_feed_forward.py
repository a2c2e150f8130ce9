"""Norms inside a feed-forward, against float64 by hand."""

import numpy as np
import pytest
from flax import nnx
from scipy import special

from normjax.nn.feed_forward import FeedForward
from tests import support


def _rms(x):
  return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6)


@pytest.mark.parametrize("activation", ["swiglu", "relu", "squared_relu"])
def test_the_hidden_norm_is_before_the_activation_the_inner_one_behind(
  activation,
):
  layer = FeedForward(
    4,
    6,
    activation=activation,
    hidden_norm="rms_norm",
    inner_norm="rms_norm",
    rngs=nnx.Rngs(0),
  )
  x = support.normal(2, 3, 4)

  def through(name, x):
    return x @ np.asarray(getattr(layer, name).kernel[...], np.float64)

  x64 = np.asarray(x, np.float64)
  if activation == "swiglu":
    hidden = _rms(through("gate", x64))
    hidden = hidden * special.expit(hidden) * through("up", x64)
  else:
    hidden = np.maximum(_rms(through("up", x64)), 0)
    hidden **= 2 if activation == "squared_relu" else 1
  close = {"rtol": 1e-4, "atol": 1e-6}
  np.testing.assert_allclose(layer(x), through("down", _rms(hidden)), **close)
  _, sown = nnx.capture(lambda layer: layer(x), nnx.Intermediate)(layer)
  # Behind the nonlinearity and the gate, before the last matrix's own norm.
  np.testing.assert_allclose(nnx.to_pure_dict(sown)["post"][0], hidden, **close)
