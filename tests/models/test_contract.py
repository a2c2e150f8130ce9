"""Every model keeps the contract, with every norm."""

import pytest

from normjax import models, norms
from tests.contracts import model_contract


@pytest.mark.parametrize("norm", norms.names())
@pytest.mark.parametrize("name", models.names())
class TestModel(model_contract.ModelContract):
  """The shared contract."""
