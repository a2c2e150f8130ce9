"""How kernels start: each rule, and each placement's own."""

import math

import jax
import numpy as np
import pytest

from normjax import errors
from normjax.nn import initial, placement

LAYERS, WIDTH = 6, 64
SHAPE = (64, 64)
# Xavier's, of this shape.
XAVIER = math.sqrt(2 / 128)
# What each placement's source says of kernels that read the stream, of values
# and feed-forwards, and of those that write to the stream: at six blocks, the
# second of them, and 64 features.
OWN = {
  # Radford et al. 2019: 1 / sqrt(branches) on residual layers.
  "pre": (0.02, 0.02, 0.02 / math.sqrt(12)),
  "sandwich": (0.02, 0.02, 0.02 / math.sqrt(12)),
  "peri": (0.02, 0.02, 0.02 / math.sqrt(12)),
  "nap": (0.02, 0.02, 0.02 / math.sqrt(12)),
  # N(0, 0.02) for all, in the code of the three comparisons.
  "post": (0.02, 0.02, 0.02),
  "mix": (0.02, 0.02, 0.02),
  "layer_norm_scaling": (0.02, 0.02, 0.02),
  "reordered": (0.02, 0.02, 0.02),
  "keel": (0.02, 0.02, 0.02),
  "deep_norm": (XAVIER, XAVIER * 48**-0.25, XAVIER * 48**-0.25),
  "sub_ln": (
    XAVIER,
    XAVIER * math.sqrt(math.log(12)),
    XAVIER * math.sqrt(math.log(12)),
  ),
  "hybrid": (math.sqrt(0.4) / 8, math.sqrt(0.4) / 8, math.sqrt(0.4 / 12) / 8),
  "hybrid_star": (
    math.sqrt(0.4) / 8,
    math.sqrt(0.4) / 8,
    math.sqrt(0.4 / 12) / 8,
  ),
  # 2 / layers over the root of the width.
  "parallel": (1 / 8, 1 / 8, 2 / 6 / 8),
  "parallel_two_norms": (
    math.sqrt(0.4) / 8,
    math.sqrt(0.4) / 8,
    2 / 6 / 8,
  ),
  "normalized_stream": (1 / 8, 1 / 8, 1 / 8),
}


def _deviation(rule, gain):
  draw = rule(gain, 2, LAYERS, WIDTH)
  return np.std(draw(jax.random.key(0), SHAPE, np.float32))


@pytest.mark.parametrize("name", placement.TABLE.names())
def test_each_placements_own_start_is_its_sources(name):
  init, gain = placement.resolve(name).start("placement", LAYERS)
  got = [
    _deviation(init.inner, 1.0),
    _deviation(init.inner, gain),
    _deviation(init.writer, gain),
  ]
  # The deviation of n draws is off by 1 / sqrt(2 n), five of those at most.
  np.testing.assert_allclose(got, OWN[name], rtol=5 / math.sqrt(2 * 64 * 64))


def test_every_own_start_has_its_source():
  for name in placement.TABLE.names():
    assert placement.resolve(name).init_source, name


@pytest.mark.parametrize("name", ["pre", "deep_norm", "sub_ln"])
def test_a_named_start_is_the_same_for_every_placement(name):
  """The factors of DeepNorm and SubLN belong to their own starts."""
  init, gain = placement.resolve(name).start("plain", LAYERS)
  assert (init.name, gain) == ("plain", 1.0)


def test_older_runs_asked_for_the_own_start_by_none():
  rule = placement.resolve("deep_norm")
  assert rule.start(None, LAYERS) == rule.start("placement", LAYERS)


def test_the_own_start_may_be_meant():
  with pytest.raises(errors.UnknownNameError, match="Did you mean 'placement'"):
    initial.resolve("placment")
