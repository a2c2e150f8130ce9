"""Every model keeps the contract, with a norm of each kind.

`test_everywhere.py` has every norm in the transformers.
"""

import pytest

from normjax import models
from tests.contracts import model_contract

# Many compiled shapes for what the spiking VGG shows with one norm.
_SLOW = (
  ("sew_resnet", "rms_norm"),
  ("sew_resnet", "batch_norm"),
  ("spiking_vgg", "rms_norm"),
)


@pytest.mark.parametrize(
  ("name", "norm"),
  [
    pytest.param(
      name, norm, marks=[pytest.mark.slow] if (name, norm) in _SLOW else []
    )
    for name in models.names()
    for norm in ("rms_norm", "batch_norm")
  ],
)
class TestModel(model_contract.ModelContract):
  """The shared contract."""
