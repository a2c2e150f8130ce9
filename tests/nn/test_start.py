"""Steps between a config's model and the one that trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors
from normjax.nn import start
from normjax.nn import variables as nn_variables


class Scaled(nnx.Module):
  """y = scale x, with an offset in another variant."""

  def __init__(self, scale, offset=None):
    self.scale = nnx.Param(jnp.asarray(scale))
    if offset is not None:
      self.offset = nnx.Param(jnp.asarray(offset))


def _scaled_by(factor):
  def apply(model, variables):
    return model, jax.tree.map(lambda x: x * factor, variables)

  return start.StartStep(apply, changes_structure=False)


def _with_offset(module):
  return Scaled(module.scale[...], module.scale[...] + 1)


OFFSET = start.of_module(_with_offset)


@pytest.fixture
def drawn():
  """A model of one parameter, and its variables."""
  return nn_variables.split(Scaled([1.0, 2.0]))


def test_steps_are_taken_in_order_and_change_no_argument(drawn):
  model, variables = drawn
  double = _scaled_by(2)
  for steps, offset in (
    ([double, OFFSET], [3.0, 5.0]),
    ([OFFSET, double], [4.0, 6.0]),
  ):
    new, found = start.apply(steps, model, variables)
    np.testing.assert_array_equal(found["params"]["scale"], [2.0, 4.0])
    np.testing.assert_array_equal(found["params"]["offset"], offset)
    module = nn_variables.merge(new, found)
    np.testing.assert_array_equal(module.offset[...], offset)
  assert set(variables["params"]) == {"scale"}
  np.testing.assert_array_equal(variables["params"]["scale"], [1.0, 2.0])


def test_in_shapes_only_the_structure_counts(drawn):
  def never(model, variables):
    raise AssertionError("nothing is read for shapes")

  model, variables = drawn
  reads = start.StartStep(never, changes_structure=False)
  new, shapes = start.in_shapes([reads, OFFSET], model, variables)
  want, values = start.apply([OFFSET], model, variables)
  assert new == want
  same = jax.tree.map(lambda x: (x.shape, x.dtype), values)
  assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == same


def test_values_come_in_the_models_dtypes(drawn):
  model, variables = drawn
  read = start.StartStep(
    lambda model, _: (model, {**variables, "params": {"scale": np.ones(2)}}),
    changes_structure=False,
  )
  _, found = start.apply([read], model, variables)
  assert found["params"]["scale"].dtype == jnp.float32


def test_each_check_sees_what_the_step_will_get(drawn):
  seen = []

  def check(model, shapes):
    seen.append(sorted(shapes["params"]))

  step = start.StartStep(pytest.fail, changes_structure=False, check=check)
  start.check([step, OFFSET, step], *drawn)
  assert seen == [["scale"], ["offset", "scale"]]
  start.check([step, OFFSET], *drawn, resumes=True)
  assert len(seen) == 2


def test_messages_begin_with_the_steps_name(drawn):
  def other(model, variables):
    return model, {**variables, "params": {"gain": jnp.ones(3)}}

  step = start.StartStep(other, changes_structure=False, name="key=value")
  with pytest.raises(
    errors.UserError,
    match=r"^key=value: must keep .* its params/gain has no place in this one;"
    r" it has no params/scale\.$",
  ):
    start.apply([step], *drawn)

  def refuses(module):
    raise errors.UnknownNameError("no.")

  step = start.of_module(refuses)
  for function in (start.check, start.apply, start.in_shapes):
    with pytest.raises(errors.UnknownNameError, match=r"^start step: no\.$"):
      function([step], *drawn)


def test_a_step_of_a_step_is_refused():
  """What `of_module` makes is a step already."""
  step = start.of_module(lambda module: module, changes_structure=False)
  assert not step.changes_structure
  with pytest.raises(errors.UserError, match="apply is a StartStep; needed: a"):
    start.StartStep(step)
