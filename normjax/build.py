"""Resolved config -> data, model, optimizer: where every table is met.

The config's floats that only scale numbers (the optimizer's, the schedule's,
some of train's) and its seed are *scalars*: they enter the compiled step as
arrays. Everything else is *static*, and its hash names the program, so that
two runs which differ only in scalars share one compilation.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from normjax import configure, errors
from normjax.types import Array, Hyper

_SCALAR_BLOCKS = ("optimizer", "schedule", "train")
_SCALAR_INTS = ("seed", "train.num_steps")
# What steers the loop around the program, not the program.
_LOOP_KEYS = (
  "train.initialize_from",
  "evaluate.every_steps",
  "evaluate.num_batches",
  "evaluate.corruptions",
  "checkpoint.every_steps",
  "checkpoint.keep",
  "log.every_steps",
  "log.tensorboard",
  "log.wandb",
)


def _is_scalar(path: str, value: Any) -> bool:
  return path in _SCALAR_INTS or (
    isinstance(value, float) and path.split(".")[0] in _SCALAR_BLOCKS
  )


def scalars(config: configure.ConfigDict) -> dict[str, float | int]:
  """Dotted path to value of all that is traced."""
  return {
    path: value
    for path, value in configure.leaves(configure.to_dict(config))
    if _is_scalar(path, value)
  }


def hyper(config: configure.ConfigDict) -> Hyper:
  """The scalars as float32 and int32 arrays: an argument of the program."""
  return {
    path: jnp.asarray(
      value, jnp.int32 if isinstance(value, int) else jnp.float32
    )
    for path, value in scalars(config).items()
  }


def program_key(config: configure.ConfigDict) -> str:
  """Equal for two configs that compile to the same program."""
  return configure.digest(
    {
      path: "traced" if _is_scalar(path, value) else value
      for path, value in configure.leaves(configure.to_dict(config))
      if path not in _LOOP_KEYS
    }
  )


def _options(block: Mapping[str, Any]) -> dict[str, Any]:
  return {key: value for key, value in block.items() if key != "name"}


@functools.lru_cache(maxsize=2)
def _dataset(block_json: str) -> Any:
  from normjax import data  # Late: the table is light, its sources are not.

  block = json.loads(block_json)
  return data.make(block["name"], **_options(block))


def dataset(config: configure.ConfigDict) -> Any:
  """The data set, kept in memory for the next run that asks for it."""
  return _dataset(json.dumps(configure.to_dict(config)["data"]))


def model(
  config: configure.ConfigDict,
  reads: str,
  data_options: Mapping[str, Any],
  rngs: nnx.Rngs,
) -> nnx.Module:
  """The model, sized for the data.

  Args:
    config: a resolved config.
    reads: what the data gives: "tokens", "images" or "features".
    data_options: the options that the data decides (`vocab_size`, …).
    rngs: streams of the initialization.

  Raises:
    UserError: the model does not read this kind of data.
  """
  from normjax import models

  resolved = configure.to_dict(config)
  block = resolved["model"]
  accepted = models.get(block["name"]).reads
  if reads not in accepted:
    raise errors.UserError(
      f"model {block['name']!r} reads {' or '.join(sorted(accepted))};"
      f" data {resolved['data']['name']!r} gives {reads}."
    )
  return models.make(
    block["name"],
    **_options(block),
    **data_options,
    norm=resolved["norm"],
    compute_dtype=resolved["train"]["precision"],
    rngs=rngs,
  )


def optimizer(
  config: configure.ConfigDict,
  values: Mapping[str, Array | float | int] | None = None,
  learning_rate_scale: Array | float = 1.0,
) -> Any:
  """The optimizer, its scalars taken from `values`.

  Args:
    config: a resolved config; gives the name and the static options.
    values: dotted path to traced scalar, as `hyper` makes them; None takes
      the config's own numbers, which are then checked.
    learning_rate_scale: the schedule's fraction at this step; multiplies
      every option whose name ends in `learning_rate`.
  """
  from normjax import optim

  block = configure.to_dict(config)["optimizer"]
  options = _options(block)
  for key in options:
    path = f"optimizer.{key}"
    if values is not None and path in values:
      options[key] = values[path]
    if key.endswith("learning_rate") and options[key] is not None:
      options[key] = options[key] * learning_rate_scale
  return optim.make(block["name"], **options)


def describe_updates(
  config: configure.ConfigDict, params: Any
) -> dict[str, str]:
  """Parameter path to the name of the update that moves it."""
  from normjax import optim

  block = configure.to_dict(config)["optimizer"]
  return optim.describe(block["name"], params, **_options(block))
