"""BEN: statistics of the controls alone.

By its equations, as the baseline of github.com/ml-jku/cs-arm-bn (GPL-3), of
which nothing is here.
"""

import dataclasses

from normjax import norms, validate
from normjax.context import base


def ben(cumulative: bool = True) -> base.Method:
  """Running statistics from controls of the domain, then as in evaluation.

  Queries do not meet one another, in training neither, and no gradient passes
  the controls. Dropout, if there is some, is on in training.

  Args:
    cumulative: True: the statistics are the controls' own. False: those of one
      training step from a new model's, with the momentum of each norm, as the
      released trainer has it: with a momentum of 0.9, nine parts of mean 0 and
      variance 1, and one of the controls.
  """
  validate.flags("ben", cumulative=cumulative)
  forward = _by_controls if cumulative else _as_released
  return base.Method("ben", forward, needs_controls=True)


def _by_controls(model, queries, controls, train):
  return _with(model, model.measure(controls), queries, train)


def _as_released(model, queries, controls, train):
  first = base.start_of(model.structure, model.params, model.stats)
  return _with(model, model.measure(controls, first), queries, train)


def _with(model, stats, queries, train):
  mode = dataclasses.replace(norms.EVALUATE, noise=train)
  return model(queries, mode, stats)[0], stats
