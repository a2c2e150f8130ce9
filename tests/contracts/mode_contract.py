"""What `train` means to every layer and model: `tests/*/test_modes.py`.

Two calls are the same where their traced programs are: nothing is compiled.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.interpreters import partial_eval

from normjax import errors, norms
from normjax.nn import variables as nn_variables


class Traced:
  """A call that was traced; its outputs are y and the statistics after it."""

  def __init__(self, module, inputs, **call):
    structure, variables = nn_variables.split(module)

    def apply(variables, inputs):
      merged = nn_variables.merge(structure, variables)
      y = merged(inputs, **call)
      return y, nn_variables.split(merged)[1]["stats"]

    closed = jax.make_jaxpr(apply)(variables, inputs)
    self.jaxpr, self.consts = closed.jaxpr, closed.consts
    self.given = variables, inputs

  def __eq__(self, other):
    return _text(self.jaxpr) == _text(other.jaxpr)

  def _only(self, *, y):
    """The part of the program that y needs, or that the statistics need."""
    count = len(jax.tree.leaves(self.given[0]["stats"]))
    first = len(self.jaxpr.outvars) - count
    used = [y] * first + [not y] * count
    return partial_eval.dce_jaxpr(self.jaxpr, used, instantiate=True)[0]

  def program_of_y(self):
    """What y is made by."""
    return _text(self._only(y=True))

  def draws(self):
    """Whether there is noise in y."""
    return "random_bits" in self.program_of_y()

  def moves_nothing(self):
    """Whether the statistics put out are those put in."""
    jaxpr = self._only(y=False)
    # Each leaf has a value of its own.
    leaves, structure = jax.tree.flatten(self.given)
    leaves = [
      jnp.full(leaf.shape, index, leaf.dtype)
      for index, leaf in enumerate(leaves)
    ]
    new = jax.core.eval_jaxpr(jaxpr, self.consts, *leaves)
    old = jax.tree.leaves(structure.unflatten(leaves)[0]["stats"])
    return all(np.array_equal(*pair) for pair in zip(new, old, strict=True))


def _text(jaxpr):
  """Without addresses."""
  return re.sub(r"0x[0-9a-f]+", "", str(jaxpr))


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
  """A layer or a model.

  Attributes:
    make: makes it; no test looks at the values of its variables.
    inputs: what it reads.
    call: what it is called with beside them: a key, where something is drawn.
  """

  make: Callable[[], nnx.Module]
  inputs: Any
  call: Mapping[str, Any]

  def trace(self, module=None, **train):
    """A call of the module, or of a new one."""
    if module is None:
      module = nnx.eval_shape(self.make)
    return Traced(module, self.inputs, **train, **self.call)

  @functools.cached_property
  def training(self):
    """What train=True is."""
    return self.trace(train=True)

  @functools.cached_property
  def evaluation(self):
    """What train=False is."""
    return self.trace(train=False)


class ModeContract:
  """Parametrized by `case`."""

  def test_eval_and_train_decide_where_the_call_does_not(self, case):
    module = nnx.eval_shape(case.make)
    assert case.evaluation.moves_nothing()
    assert case.trace(module) == case.training
    module.eval()
    assert case.trace(module, train=None) == case.evaluation
    assert case.trace(module, train=True) == case.training
    module.train()
    assert case.trace(module, train=None) == case.training

  def test_statistics_of_the_batch_without_an_update(self, case):
    """Y is that of training, equation by equation; nothing moves."""
    kept = case.trace(train=norms.Mode(noise=True, statistics="batch"))
    assert kept.program_of_y() == case.training.program_of_y()
    assert kept.moves_nothing()

  def test_noise_alone(self, case):
    """As by hand: `eval()`, and then dropout is switched on again."""
    module = nnx.eval_shape(case.make)
    noisy = case.trace(module, train=norms.Mode(noise=True))
    assert noisy.moves_nothing()
    assert noisy.draws() == ("key" in case.call)
    assert not case.evaluation.draws()
    module.eval()
    module.set_attributes(deterministic=False, raise_if_not_found=False)
    assert case.trace(module) == noisy

  def test_what_is_no_mode_is_named(self, case):
    module = nnx.eval_shape(case.make)
    for bad in ("yes", 2, 0.0):
      message = rf"^train must be True, False, .*; got {bad!r}"
      with pytest.raises(errors.UserError, match=message):
        case.trace(module, train=bad)
