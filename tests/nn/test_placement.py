import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors
from normjax.nn import placement


def _branch(x):
  return 3.0 * x


def _norm(x):
  return x / 2.0


def test_pre_normalizes_what_the_branch_reads():
  slots = {slot: _norm for slot in placement.PRE.slots}
  y = placement.residual(jnp.asarray(4.0), _branch, slots)
  np.testing.assert_array_equal(y, 4 + 3 * 2)
  assert placement.PRE.final_norm


def test_post_normalizes_the_stream():
  slots = {slot: _norm for slot in placement.POST.slots}
  y = placement.residual(jnp.asarray(4.0), _branch, slots)
  np.testing.assert_array_equal(y, (4 + 3 * 4) / 2)
  assert not placement.POST.final_norm


def test_names_resolve_and_unknown_ones_are_named():
  for name in placement.TABLE:
    assert placement.resolve(name).name == name
  assert placement.resolve(placement.PRE) is placement.PRE
  with pytest.raises(errors.UnknownNameError, match="Known: pre, post"):
    placement.resolve("sandwich")
