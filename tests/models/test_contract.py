"""Every model keeps the contract, with a norm of each kind.

`test_everywhere.py` has every norm in the transformers.
"""

import pytest

from normjax import errors, models
from tests.contracts import model_contract


def _pairs():
  for name in models.names():
    without = name in model_contract.WITHOUT_NORM
    for norm in ("identity",) if without else model_contract.NORMS:
      slow = (name, norm) in model_contract.SLOW
      marks = [pytest.mark.slow] if slow else []
      yield pytest.param(name, norm, marks=marks)


@pytest.mark.parametrize(("name", "norm"), list(_pairs()))
class TestModel(model_contract.ModelContract):
  """The shared contract."""


@pytest.mark.parametrize("name", model_contract.WITHOUT_NORM)
def test_a_model_without_norms_says_so(name):
  with pytest.raises(errors.UserError, match=r"norm='rms_norm'.*'identity'"):
    model_contract.make(name, norm="rms_norm")
