"""Every model keeps the contract, with a norm of each kind.

`test_everywhere.py` has every norm in the transformers.
"""

import pytest

from normjax import models
from tests.contracts import model_contract


@pytest.mark.parametrize("norm", ["rms_norm", "batch_norm"])
@pytest.mark.parametrize("name", models.names())
class TestModel(model_contract.ModelContract):
  """The shared contract."""
