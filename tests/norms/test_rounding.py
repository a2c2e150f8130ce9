"""Every norm of the table keeps the contract of rounding."""

import math

import pytest

from tests.contracts import norm_rounding
from tests.norms import cases

_B, _Y, _X, _C = norm_rounding.SHAPE
_ROWS, _PIXELS, _GROUP = _B * _Y * _X, _Y * _X, _Y * _X * _C // 2

# What multiplies an error of x: a product of roots where there are two stages
# (both above 1/2), or a gain that is a sum of n products of x.
SENSITIVITIES = {
  "bcn": 2.0,
  # |d tanh(x . beta) alpha| per feature: beta and alpha below 1.5, n features.
  "seednorm": 1.5 * 1.5 * _C,
}

# |y| at gain 1, as a square: n - 1 where a mean is subtracted, n elsewhere.
# Norms that are not here have mixed statistics, a gate, or no bound.
BOUNDS = {
  "layer_norm": _C - 1,
  "rms_norm": _C,
  "scale_norm": _C,
  "l2_norm": 1,
  "seednorm": _C,
  "pre_affine": _C,
  "power_norm": _ROWS,
  "unified_norm": _ROWS,
  "batch_norm": _ROWS - 1,
  "batch_renorm": _ROWS - 1,
  "group_norm": _GROUP - 1,
  "instance_norm": _PIXELS - 1,
  "frn": _PIXELS,
  "bcn": _GROUP - 1,
  "adain": _PIXELS - 1,
}


@pytest.fixture
def sensitivity(case):
  return SENSITIVITIES.get(case.norm.name, 1.0)


@pytest.fixture
def bound(case):
  square = BOUNDS.get(case.norm.name)
  return None if square is None else math.sqrt(square)


@pytest.mark.optimized
@pytest.mark.parametrize("case", cases.default_cases(), ids=str)
class TestConstant(norm_rounding.ConstantContract):
  """Every norm with its defaults: each has its own way to centre."""


@pytest.mark.optimized
@pytest.mark.parametrize("case", cases.defaults_by_family(), ids=str)
class TestRounding(norm_rounding.RoundingContract):
  """One norm of each family with its defaults; the others in `test-all`."""
