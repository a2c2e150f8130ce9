"""What `train` means to every layer and model: `tests/*/test_modes.py`.

Two calls are the same where their traced programs are: nothing is compiled.
"""

import re

import jax
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
    self.given, self.stats = (variables, inputs), variables["stats"]

  def __eq__(self, other):
    return _text(self.jaxpr) == _text(other.jaxpr)

  def _only(self, *used):
    """The part of the program that these outputs need."""
    return partial_eval.dce_jaxpr(self.jaxpr, used, instantiate=True)[0]

  def program_of_y(self):
    """What y is made by."""
    return _text(self._only(True, *[False] * (len(self.jaxpr.outvars) - 1)))

  def moves_nothing(self):
    """Whether the statistics put out are those put in."""
    old = jax.tree.leaves(self.stats)
    jaxpr = self._only(False, *[True] * len(old))
    new = jax.core.eval_jaxpr(jaxpr, self.consts, *jax.tree.leaves(self.given))
    return all(np.array_equal(*pair) for pair in zip(new, old, strict=True))


def _text(jaxpr):
  """Without addresses."""
  return re.sub(r"0x[0-9a-f]+", "", str(jaxpr))


class ModeContract:
  """Parametrized by `make`, which returns (module, inputs, other arguments)."""

  def test_eval_and_train_decide_where_the_call_does_not(self, make):
    module, inputs, call = make()
    training = Traced(module, inputs, train=True, **call)
    evaluation = Traced(module, inputs, train=False, **call)
    assert evaluation.moves_nothing()
    assert Traced(module, inputs, **call) == training
    module.eval()
    assert Traced(module, inputs, train=None, **call) == evaluation
    assert Traced(module, inputs, train=True, **call) == training
    module.train()
    assert Traced(module, inputs, train=None, **call) == training
    switched = nnx.view(
      module,
      deterministic=True,
      use_running_average=True,
      raise_if_not_found=False,
    )
    assert Traced(switched, inputs, **call) == evaluation

  def test_statistics_of_the_batch_without_an_update(self, make):
    """Y is that of training, equation by equation; nothing moves."""
    module, inputs, call = make()
    training = Traced(module, inputs, train=True, **call)
    mode = norms.Mode(noise=True, statistics="batch")
    kept = Traced(module, inputs, train=mode, **call)
    assert kept.program_of_y() == training.program_of_y()
    assert kept.moves_nothing()

  def test_noise_alone(self, make):
    """As by hand: `eval()`, and then dropout is switched on again."""
    module, inputs, call = make()
    noisy = Traced(module, inputs, train=norms.Mode(noise=True), **call)
    assert noisy.moves_nothing()
    module.eval()
    module.set_attributes(deterministic=False, raise_if_not_found=False)
    assert Traced(module, inputs, **call) == noisy
    evaluation = Traced(module, inputs, train=False, **call)
    assert (noisy == evaluation) == ("key" not in call)

  @pytest.mark.parametrize("bad", ["yes", 2, 0.0])
  def test_what_is_no_mode_is_named(self, make, bad):
    module, inputs, call = make()
    with pytest.raises(
      errors.UserError, match=rf"^train must be .*got {bad!r}"
    ):
      module(inputs, train=bad, **call)
