"""Every norm of the table keeps the contract."""

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from normjax import norms
from tests.contracts import norm_contract, norm_transformations, norm_values
from tests.norms import cases


@pytest.mark.parametrize("case", cases.all_cases(), ids=str)
class TestNorm(norm_contract.NormContract):
  """The shared contract, on every variant."""


@pytest.mark.parametrize("case", cases.by_family(), ids=str)
class TestTransformations(norm_transformations.TransformationContract):
  """What compilers do, on one norm of each family; on all in `test-all`."""


def test_families_are_of_the_table():
  members = [name for names in cases.FAMILIES.values() for name in names]
  assert len(members) == len(set(members))
  assert set(members) <= set(norms.names())


def test_variables_survive_a_checkpoint(tmp_path):
  tree = {
    name: norm_values.inputs(cases.make(name), (2, 3, 5, 16))[0]
    for name in norms.names()
  }
  tree = norm_values.to(np.float32, tree)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "variables", tree)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(
      tmp_path / "variables", jax.eval_shape(lambda: tree)
    )
  jax.tree.map(np.testing.assert_array_equal, restored, tree)
