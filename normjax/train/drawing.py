"""A model as it is drawn from a seed, in shapes."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
from flax import nnx

from normjax import build, configure, rng
from normjax.nn import given, model_roles, start
from normjax.nn import variables as nn_variables
from normjax.record import sources
from normjax.train import fit


class Drawing(NamedTuple):
  """The model of a config as it is drawn, before any start step.

  Attributes:
    draw: (hyper, batch=None) -> variables. A model that has a method
      `initialize_on(inputs, key)` gets the inputs of the batch, if there is
      one.
    model: its structure.
    shapes: of its variables.
    roles: of them, read once.
    reads_batch: whether it has `initialize_on`.
    non_negative_inputs: whether it says that of itself.
  """

  draw: Callable[..., start.Variables]
  model: nn_variables.Structure
  shapes: start.Variables
  roles: Callable[[], model_roles.Roles]
  reads_batch: bool = False
  non_negative_inputs: bool = False


# The last drawings of our own models: programs that differ in the optimizer
# have the model in common, and a deep one takes a second to build in shapes.
_DRAWINGS: dict[str, Drawing] = {}
_NUM_DRAWINGS = 4


def of(config: configure.ConfigDict) -> Drawing:
  """How the model is drawn; nothing is computed.

  Raises:
    UserError: what `build.model` raises; norms of other domains than the
      data's; inputs below 0 for a model that says `non_negative_inputs`.
  """
  name = key(config)
  found = _DRAWINGS.get(name) if name else None
  if found is None:
    found = _draw_in_shapes(configure.override(config, {}))
    if name:
      while len(_DRAWINGS) >= _NUM_DRAWINGS:
        del _DRAWINGS[next(iter(_DRAWINGS))]
      _DRAWINGS[name] = found
  if found.non_negative_inputs:
    fit.check_inputs(config, build.dataset(config))
  return found


def key(config: configure.ConfigDict) -> str:
  """Equal for configs whose models are drawn alike; "": of code not ours.

  The module of one's own may be another the next time.
  """
  leaves = dict(configure.leaves(configure.to_dict(config)))
  if sources.components(config):
    return ""
  blocks = ("model.", "norm.", "data.", "train.precision")
  own = {k: v for k, v in leaves.items() if k.startswith(blocks)}
  dataset = build.dataset(config)
  x64 = jax.config.jax_enable_x64
  options = dict(dataset.model_options)
  return configure.digest([own, dataset.reads, options, x64])


def _draw_in_shapes(config: configure.ConfigDict) -> Drawing:
  """See `of`; the config stays as it is."""
  dataset = build.dataset(config)

  def make_model(seed):
    # The default stream is for what a user's own model draws beside them.
    default = rng.fold(seed, "init_streams")
    rngs = nnx.Rngs(default, params=rng.fold(seed, "init"))
    return build.model(config, dataset.reads, dataset.model_options, rngs)

  model = nnx.eval_shape(lambda: make_model(0))
  fit.check_domains(config, dataset, model)

  def draw(hyper, batch=None):
    model = make_model(hyper["seed"])
    if batch is not None and hasattr(model, "initialize_on"):
      key = rng.fold(hyper["seed"], "init_on_data")
      with given.of_batch(batch):
        model.initialize_on(batch["inputs"], key)
    return nn_variables.split(model)[1]

  structure, shapes = nn_variables.split(model)
  return Drawing(
    draw,
    structure,
    shapes,
    roles=functools.cache(lambda: model_roles.of(model)),
    reads_batch=hasattr(model, "initialize_on"),
    non_negative_inputs=bool(getattr(model, "non_negative_inputs", False)),
  )
