"""What a model's step takes, whatever program computes it: for MFU.

    3 x the matrix products and convolutions of the forward pass

A backward pass takes each twice; other steps have a number of their own,
`forwards_per_step`. What is recomputed, and the optimizer, do not count:
A. Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B, where a token
takes 6 N + 12 L H Q T; attention counts in full, causal or not.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from kernels_pallas import dispatch
from normjax import build, configure, procedures
from normjax.nn import calling, given
from normjax.nn import variables as nn_variables
from normjax.train import drawing, gradient, precision, program

_PER_STEP: dict[str, float | None] = {}
_FORWARDS: dict[str, float | None] = {}


class UnknownError(ValueError):
  """A loop of no known length has products in it."""


def per_step(config: configure.ConfigDict) -> float | None:
  """Operations of a step on a whole batch; None where they cannot be told."""
  key = build.program_key(config)
  if key not in _PER_STEP:
    _PER_STEP[key] = _of_step(config)
  return _PER_STEP[key]


def forwards_per_step(config: configure.ConfigDict) -> float | None:
  """A step's products in those of a forward pass of the model on its batch.

  3 of backpropagation, whatever it leaves out. Equal steps are equal compute
  where this is equal, too.

  Returns:
    None where it cannot be told, as of a procedure that takes its gradients
    itself.
  """
  key = build.program_key(config)
  if key not in _FORWARDS:
    _FORWARDS[key] = _forwards(config)
  return _FORWARDS[key]


def _forwards(config: configure.ConfigDict) -> float | None:
  if any(procedure.learns for procedure in procedures.of(config)):
    return None
  way = gradient.of(config)
  if way.num_forwards is not None:
    moves = False
    if way.moves_apart:
      drawn = drawing.of(config)
      moves = gradient.has_statistics(drawn.model, drawn.shapes)
    return way.num_forwards + int(moves) + way.num_choosing
  forward, estimate = _of_forward(config), _of_estimate(config)
  if not forward or estimate is None:
    return None
  return estimate / forward + way.num_choosing


def _of_step(config: configure.ConfigDict) -> float | None:
  num_forwards, forward = forwards_per_step(config), _of_forward(config)
  if num_forwards is None or forward is None:
    return None
  return num_forwards * forward


def _of_estimate(config: configure.ConfigDict) -> float | None:
  """Operations of what a gradient is estimated by."""
  if config.model.get("remat", False):
    config = configure.override(config, {"model.remat": False})
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, batch = build.hyper(config), _batch(config)
  state = jax.eval_shape(initialize, hyper, batch)

  def measured(state, batch, hyper):
    return recipe.gradient.estimate(recipe, state, batch, hyper).metrics

  return _products(config, measured, state, batch, hyper)


def _of_forward(config: configure.ConfigDict) -> float | None:
  """Operations of a forward pass."""
  drawn = drawing.of(config)
  key = jax.eval_shape(lambda: jax.random.key(0))

  def forward(variables, batch, key):
    model = nn_variables.merge(drawn.model, variables, key)
    with given.of_batch(batch):
      calling.call(model, batch["inputs"], train=True, key=key)

  return _products(config, forward, drawn.shapes, _batch(config), key)


def _batch(config: configure.ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
  batch = build.dataset(config).train_batch(0, 0, config.train.batch_size)
  return {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()}


def _products(
  config: configure.ConfigDict, function: Callable[..., Any], *shapes: Any
) -> float | None:
  """Operations of a function, on a config's arithmetic; None: not known."""
  # As on a CPU: kernels that XLA cannot look into are written out there.
  cpu = AbstractDevice(device_kind="cpu", platform="cpu", num_cores=None)
  mesh = AbstractMesh((), (), abstract_device=cpu)
  try:
    with use_abstract_mesh(mesh), precision.applied(precision.choice(config)):
      traced = jax.make_jaxpr(function)(*shapes)
    return products(traced.jaxpr)
  except (dispatch.UnsupportedError, UnknownError):
    return None


def products(jaxpr: core.Jaxpr) -> float:
  """Operations of all matrix products and convolutions.

  Raises:
    UnknownError: some are in a loop of no known length.
  """
  return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> float:
  name, params = equation.primitive.name, equation.params
  shapes = [getattr(v.aval, "shape", ()) for v in equation.invars]
  size = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    return 2.0 * size * math.prod(shapes[0][axis] for axis in contracted)
  if name == "conv_general_dilated":
    outputs = shapes[1][params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * size * math.prod(shapes[1]) / outputs
  inner = [products(each) for each in _inner(params)]
  if name == "cond":
    return max(inner)
  if name == "while" and any(inner):
    raise UnknownError
  return sum(inner) * (params["length"] if name == "scan" else 1)


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
  """The programs that an equation holds."""
  for value in params.values():
    for each in value if isinstance(value, tuple | list) else (value,):
      if isinstance(each, core.ClosedJaxpr):
        yield each.jaxpr
      elif isinstance(each, core.Jaxpr):
        yield each
