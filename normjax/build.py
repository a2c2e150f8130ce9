"""Resolved config -> data, model, optimizer, objective: all tables meet here.

The config's floats that only scale numbers (the optimizer's, the objective's,
the schedule's, some of train's) and its seed are *scalars*: they enter the
compiled step as arrays. Everything else is *static*, and its hash names the
program, so that two runs which differ only in scalars share one compilation.
`fields` says which is which; of optimizers and objectives, their factories.
"""

import dataclasses
import functools
import inspect
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import configure, errors, fields, naming, outside, own_parts
from normjax import data as data_lib
from normjax import procedures as procedures_lib
from normjax.imports import is_outside
from normjax.nn import calling
from normjax.nn.model_roles import Roles
from normjax.nn.start import StartStep
from normjax.types import Array, Hyper

_START = "train.initialize_from"


def scalars(config: configure.ConfigDict) -> dict[str, float | int]:
  """Dotted path to value of all that is traced."""
  flat = dict(configure.leaves(configure.to_dict(config)))
  traced = _traced(flat)
  return {path: value for path, value in flat.items() if path in traced}


def _traced(flat: Mapping[str, Any]) -> set[str]:
  """The leaves of a config that enter the program as arrays."""
  from normjax import objectives, optim  # Late: their files are not light.

  found = fields.traced(flat)
  tables = {"optimizer.": optim.REGISTRY, "objective.": objectives.REGISTRY}
  for block, table in tables.items():
    own = {k[len(block) :]: v for k, v in flat.items() if k.startswith(block)}
    if own:
      found |= {block + key for key in table.traced(own.pop("name"), own)}
  # A schedule multiplies it at every step, whatever an own factory annotates.
  return found | {"optimizer.learning_rate"} & flat.keys()


def hyper(config: configure.ConfigDict) -> Hyper:
  """The scalars as float32 and int32 arrays: an argument of the program."""
  return {
    path: jnp.asarray(value, _dtype(path))
    for path, value in scalars(config).items()
  }


def _dtype(path: str) -> Any:
  field = fields.FIELDS.get(path)
  whole = field is not None and field.kind is int
  return jnp.int32 if whole else jnp.float32


def program_key(config: configure.ConfigDict) -> str:
  """Equal for two configs that compile to the same program."""
  leaves = dict(configure.leaves(configure.decisive(config)))
  traced = _traced(leaves)
  static = {
    path: "traced" if path in traced else value
    for path, value in leaves.items()
    if not fields.is_loop(path)
  }
  start = leaves.get(_START, "")
  # A string is a run, which shapes nothing, and need not be imported here.
  if not isinstance(start, str):
    changes = [text for text, s in _steps(start) if s.changes_structure]
    static |= {_START: changes} if changes else {}
  return configure.digest(static)


def start_steps(config: configure.ConfigDict) -> tuple[StartStep, ...]:
  """The steps of `train.initialize_from`, in order; their names say the key.

  Raises:
    UserError: a value of another type, an unknown step, or one whose factory
      refuses its options.
  """
  return tuple(step for _, step in _steps(config.train.initialize_from))


def _steps(value: Any) -> list[tuple[str, StartStep]]:
  """(entry, step) of a value of `train.initialize_from`."""
  problem = fields.FIELDS[_START].problem(value)
  if problem:
    raise errors.ConfigError(f"{_START}={value!r} {problem}.")
  from normjax import convert  # Late: steps import what they read.

  if isinstance(value, str):
    entries = [f"run(directory={value!r})"] if value else []
    shown = repr(value)
  else:
    entries, shown = list(value), repr(tuple(value))
  steps = []
  for entry in entries:
    name = f"{_START}={shown}"
    # A folder may have any name; one that reads like a step was meant as one.
    if isinstance(value, str) and convert.reads_as_step(value):
      name += f" (the step is written ({value!r},))"
    name += f", {entry!r}" if len(entries) > 1 else ""
    try:
      step = convert.start_step(entry)
    except (Exception, SystemExit) as error:
      kind = type(error) if isinstance(error, errors.UserError) else None
      raise (kind or errors.UserError)(f"{name}: {error}") from error
    steps.append((entry, dataclasses.replace(step, name=name)))
  return steps


def _options(block: Mapping[str, Any]) -> dict[str, Any]:
  return {key: value for key, value in block.items() if key != "name"}


@functools.lru_cache(maxsize=2)
def _dataset(block_json: str) -> Any:
  block = json.loads(block_json)
  return data_lib.make(block["name"], **_options(block))


def dataset(config: configure.ConfigDict) -> Any:
  """The data set, as runs of the config's seed have it; kept in memory."""
  resolved = configure.to_dict(config)
  with naming.block(resolved, "data"):
    made = data_lib.or_spec(resolved["data"], _dataset)
    made = outside.checked_dataset(resolved["data"]["name"], made)
  made = made.for_seed(resolved["seed"]) if hasattr(made, "for_seed") else made
  return procedures_lib.view(resolved, made)


def evaluation_dataset(config: configure.ConfigDict) -> Any:
  """The same, evaluated on `evaluate.split`.

  Raises:
    UserError: it has no such split.
  """
  from normjax.data import splits

  split = configure.evaluated_split(config)
  try:
    return splits.evaluated_on(dataset(config), split, config["data"])
  except errors.UserError as error:
    raise type(error)(f"evaluate.split={split!r}: {error}") from error


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
    UserError: the model does not read this kind of data, or is none.
  """
  from normjax import models, norms

  resolved = configure.to_dict(config)
  block = resolved["model"]
  given = {"norm": resolved["norm"], **data_options}
  given |= {"compute_dtype": resolved["train"]["precision"], "rngs": rngs}
  with naming.block(resolved, "model"):
    factory = models.get(block["name"])
    # One from outside need not say it: it reads what the data gives.
    accepted = getattr(factory, "reads", {reads})
    if is_outside(block["name"]):
      given = outside.taken(factory, given)
      if "norm" not in given:
        outside.say_norm_is_unused(block["name"])
  with naming.block(resolved, "norm"):
    norms.resolve(resolved["norm"])
  if reads not in accepted:
    raise errors.UserError(
      f"model {block['name']!r} reads {' or '.join(sorted(accepted))};"
      f" data {resolved['data']['name']!r} gives {reads}."
    )
  with naming.block(resolved, "model", "norm", "data"):
    made = models.make(block["name"], **_options(block), **given)
    made = outside.checked_model(block["name"], made)
  if calling.is_empty_bridge(made):
    inputs = dataset(config).train_batch(0, 0, 1)["inputs"]
    with outside.naming_model(block["name"], inputs):
      calling.fill_bridge(made, inputs, rngs)
  return made


def optimizer(
  config: configure.ConfigDict,
  values: Mapping[str, Array | float | int] | None = None,
  learning_rate_scale: Array | float = 1.0,
  roles: Roles | None = None,
) -> Any:
  """The optimizer, its scalars taken from `values`.

  Args:
    config: a resolved config; gives the name and the static options.
    values: dotted path to traced scalar, as `hyper` makes them; None takes
      the config's own numbers, which are then checked.
    learning_rate_scale: the schedule's fraction at this step; multiplies
      every option whose name ends in `learning_rate`.
    roles: of the model's parameters: which of them decay, which are matrices
      and so on, where the config leaves it open. None: by their names.
  """
  from normjax import optim, validate
  from normjax.optim import masks

  resolved = configure.to_dict(config)
  block = resolved["optimizer"]
  options = _options(block)
  if "learning_rate" not in options and is_outside(block["name"]):
    own_parts.check_learning_rate(block["name"])
  if not isinstance(options.get("learning_rate"), float):
    raise errors.UserError(
      f"optimizer.learning_rate={options.get('learning_rate')!r}: optimizer"
      f" {block['name']!r} needs one; allowed: a float, such as 0.001."
    )
  name = block["name"]
  with naming.block(resolved, "optimizer"):
    for key in options:
      path = f"optimizer.{key}"
      if values is not None and path in values:
        options[key] = values[path]
      if key.endswith("learning_rate") and options[key] is not None:
        options[key] = options[key] * learning_rate_scale
    if isinstance(options.get("mask"), str):
      validate.choice(name, "mask", options["mask"], masks.NAMED)
    made = optim.make(name, **_with_roles(name, options, roles))
    return outside.checked_optimizer(name, made)


# Options of an objective that stand in `train`, where every config has them.
_IN_TRAIN = ("label_smoothing", "z_loss")


def objective(
  config: configure.ConfigDict,
  values: Mapping[str, Array | float | int] | None = None,
) -> Any:
  """What is minimized: the config's objective, or that of the data's targets.

  Args:
    config: a resolved config.
    values: as for `optimizer`.

  Raises:
    UserError: an unknown objective, one that reads other targets, or a number
      that it does not have.
  """
  from normjax import objectives

  resolved = configure.to_dict(config)
  data = dataset(config)
  block = resolved.get("objective") or {"name": objectives.default_name(data)}
  resolved["objective"] = block
  with naming.block(resolved, "objective", "train"):
    parameters = inspect.signature(objectives.get(block["name"])).parameters
    options = {f"objective.{key}": v for key, v in _options(block).items()}
    for key in _IN_TRAIN:
      number = resolved["train"][key]
      if key in parameters and f"objective.{key}" not in options:
        options[f"train.{key}"] = number
      elif number:
        raise errors.UserError(
          f"train.{key}={number!r}: objective {block['name']!r} does not read"
          " it; allowed: 0."
        )
    traced = values or {}
    made = objectives.make(
      block["name"],
      **{
        path.partition(".")[2]: traced.get(path, value)
        for path, value in options.items()
      },
    )
    if not isinstance(made, objectives.Objective):
      raise errors.UserError(
        f"objective.name={block['name']!r} gives {type(made).__name__};"
        " normjax.objectives.Objective is needed."
      )
    if made.targets not in ("", data.targets):
      raise errors.UserError(
        f"objective.name={block['name']!r} reads targets that are"
        f" {made.targets}; those of data {data.name!r} are {data.targets}."
        f" Allowed for them: {objectives.DEFAULTS.get(data.targets)!r}."
      )
  return made


def metrics(config: configure.ConfigDict) -> tuple[Any, ...]:
  """What an evaluation measures beside the objective's means.

  Those of the objective where the data set fits, then those asked for.

  Raises:
    UserError: an unknown metric, one that does not fit the data set, or one
      that is measured already.
  """
  from normjax import metrics as metrics_lib
  from normjax import objectives

  made, data = objective(config), dataset(config)
  found = [metric for metric in made.metrics if metric.applies_to(data)]
  found += procedures_lib.metrics(config, data)
  for name in config.evaluate.get("metrics", ()):
    taken = {objectives.WEIGHT, *(made.means or ()), *(m.name for m in found)}
    try:
      metric = metrics_lib.get(name)
      if metric.name in taken:
        raise errors.UserError(
          f"{metric.name!r} is measured already, like"
          f" {', '.join(sorted(taken - {metric.name}))}."
        )
      metric = metric.on(data)
    except errors.UserError as error:
      raise type(error)(f"evaluate.metrics: {error}") from error
    found.append(metric)
  return tuple(found)


def describe_updates(
  config: configure.ConfigDict, params: Any, roles: Roles | None = None
) -> Mapping[str, str]:
  """Parameter path to the name of the update that moves it.

  Arguments as of `optimizer`; params may be shapes.
  """
  from normjax import optim

  block = configure.to_dict(config)["optimizer"]
  options = _with_roles(block["name"], _options(block), roles)
  return optim.describe(block["name"], params, **options)


def matrix_dims(config: configure.ConfigDict, params: Any, roles: Roles) -> Any:
  """The matrices of the optimizer's option `dims`: a tree like params.

  Args:
    config: a resolved config; of an optimizer without the option the matrices
      are those of `optim.default_dims`.
    params: what is trained; shapes will do.
    roles: of the model's parameters.

  Returns:
    `MatrixDims`, and None for what is no matrix to it.
  """
  from normjax.optim import dims

  block = configure.to_dict(config)["optimizer"]
  options = _with_roles(block["name"], _options(block), roles)
  entries = dims.resolve(options.get("dims"), params)
  return jax.tree.structure(params).unflatten(entries)


def _with_roles(
  name: str, options: dict[str, Any], roles: Roles | None
) -> dict[str, Any]:
  """The options; where one asks names what a parameter is, roles answer."""
  from normjax import optim
  from normjax.optim import groups

  if roles is None:
    return options
  # The option, the value with which it goes by names, what is put in its place.
  answers = (
    ("mask", "default", roles.decay_mask),
    ("mask", "input_scales", roles.selective_decay_mask),
    ("dims", None, roles.dims),
    ("non_negative", "default", roles.non_negative_mask),
    ("exempt", groups.HEAD_NAMES, roles.outputs()),
    ("momentum_on", groups.HEAD_NAMES, roles.outputs()),
    ("keep", groups.EMBEDDING_NAMES, roles.tables()),
    ("writers", groups.WRITER_NAMES, roles.writers()),
  )
  parameters = inspect.signature(optim.REGISTRY.get(name)).parameters
  return options | {
    key: answer
    for key, by_name, answer in answers
    if key in parameters
    and options.get(key, parameters[key].default) == by_name
  }
