"""Configs: load a file, override by dotted path, render, hash.

A config file defines `get_config(arg="")`, returning an ml_collections
ConfigDict. A *component* is a block with a `name` (model, norm, optimizer,
data, objective); its defaults come from `configs/<folder>/<name>.py`, so
overriding a block's `name` brings that component's own defaults and drops the
old ones. Those of one from outside, "package.module:factory", are the defaults
of the factory's signature.

A component's file of the user's own may set `name` to one from outside.
"""

import copy
import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from normjax import errors, optional_leaves, own_parts
from normjax.config_files import (
  component_file,
  component_files,
  load_module,
  maker,
  shortened,
  split_argument,
)
from normjax.config_files import (
  configs_dir as configs_dir,
)
from normjax.imports import dotted_hint, is_outside
from normjax.optional_leaves import ADDED as ADDED
from normjax.optional_leaves import OPTIONAL as OPTIONAL
from normjax.registry import near_misses, parse_call

ConfigDict = ml_collections.ConfigDict
# Of a placeholder that must be filled.
_NO_VALUE = ml_collections.config_dict.RequiredValueError

# Block of the config -> the folder of `configs` that holds its components.
COMPONENTS = {
  "model": "models",
  "norm": "norms",
  "optimizer": "optimizers",
  "data": "data",
  "objective": "objectives",
}
# Blocks whose `name` brings options. Of schedules only one from outside does:
# all of ours read the same, and so may one's own.
_NAMED = (*COMPONENTS, "schedule")
# The `field_type` of a FieldReference whose value may be whole or a fraction.
NUMBER = (int, float)


def load(path: str | Path) -> ConfigDict:
  """The config of `file.py` or `file.py:arg`.

  Raises:
    ConfigError: what `load_module` raises; the function fails, returns no
      ConfigDict, or one that holds what JSON cannot.
  """
  file, arg = split_argument(path)
  module = load_module(file)
  get_config = errors.located(
    module.__file__ or file,
    f"get_config({repr(arg) if arg else ''}) of {file} failed",
    maker(module, file),
  )
  config = get_config(arg) if arg else get_config()
  if not isinstance(config, ConfigDict):
    raise errors.ConfigError(
      f"get_config() of {file} returned {type(config).__name__};"
      " a ml_collections.ConfigDict is needed."
    )
  if isinstance(config, ml_collections.FrozenConfigDict):
    config = ConfigDict(config)
  _tidy(config, "")
  to_dict(config)
  return config


def _tidy(block: ConfigDict, prefix: str) -> None:
  """Puts Python's own numbers in place of NumPy's, and checks the keys.

  Raises:
    ConfigError: a leaf that no dotted path can name, or one without a value.
  """
  for key in list(block.keys()):
    if not isinstance(key, str) or not key or "." in key:
      raise errors.ConfigError(
        f"config key {key!r} of {prefix.rstrip('.') or 'the config'}: keys must"
        " be strings without a dot."
      )
    try:
      child = block[key]
    except _NO_VALUE as error:
      raise errors.ConfigError(
        f"config key {prefix + key!r} has no value yet: {error}"
      ) from error
    if isinstance(child, ConfigDict):
      _tidy(child, f"{prefix}{key}.")
    elif type(plain(child)) is not type(child):
      with block.ignore_type():
        block[key] = plain(child)


def component(block: str, name: str, **options: Any) -> ConfigDict:
  """The default block of a component, with some options replaced.

  An option from outside that has no default is not there until it is set.

  Args:
    block: a key of `COMPONENTS`.
    name: of a file of `configs/<folder>`, or "package.module:factory"; either
      may be followed by options, as in "name(option=value)".
    **options: replace the defaults.

  Raises:
    UnknownNameError: `configs/<folder>/<name>.py` does not exist.
    ConfigError: an option that the block does not have, or of another type.
    UserError: one from outside that cannot be imported.
  """
  path = f"{block}.name"
  if path in OPTIONAL and name == OPTIONAL[path]:
    return ConfigDict({"name": name, **options})
  name, written = parse_call(block, str(name))
  if is_outside(name):
    config = ConfigDict({"name": name, **own_parts.fields(block, name)})
  else:
    config = _of_file(block, name)
  changed = {f"{block}.{key}": v for key, v in {**written, **options}.items()}
  return override(ConfigDict({block: config}), changed)[block]


def _of_file(block: str, name: str) -> ConfigDict:
  """The block that a component's file gives."""
  file = component_file(COMPONENTS[block], name)
  if file is None:
    files = component_files(COMPONENTS[block])
    raise errors.UnknownNameError(
      f"unknown {block} {shortened(name)!r}.{near_misses(name, files)}"
      f" Known: {', '.join(files)}.{dotted_hint(name)}"
    )
  config = load(file)
  named = str(config.get("name"))
  if not is_outside(named):
    if named != name:
      raise errors.ConfigError(
        f"{file} must set name={name!r}, or name='package.module:factory' of"
        f" one of your own; got {config.get('name')!r}."
      )
    return config
  # What the file leaves out, the factory says.
  options = {key: config[key] for key in config if key != "name"}
  return component(block, named, **options)


def _set_schedule(config: ConfigDict, value: Any) -> None:
  """Sets its name: what all read stays, options of the old one's own go."""
  block, before = config.schedule, str(config.schedule.get("name"))
  name, written = parse_call("schedule", str(value))
  if before != name:
    with config.unlocked():
      for key in own_parts.options("schedule", before):
        if key in block:
          del block[key]
      _set(config, "schedule.name", name if written else value)
      for key, default in own_parts.fields("schedule", name).items():
        block[key] = default
  for key, option in written.items():
    _set(config, f"schedule.{key}", option)


def is_component_name(path: str) -> bool:
  """Whether a dotted path names the component of a block."""
  block, _, key = path.rpartition(".")
  return key == "name" and block in _NAMED


def override(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
  """A deep copy of `config` with dotted paths replaced.

  Names of components are set first, so that the order of `overrides` does
  not matter.

  Args:
    config: left as it is.
    overrides: dotted path to value, as in `{"optimizer.learning_rate": 0.1}`.

  Raises:
    ConfigError: an unknown key, a value of another type, or a whole block.
  """
  for path in overrides:
    if not isinstance(path, str):
      raise errors.ConfigError(f"an override's key is a string, got {path!r}.")
  config = _copied(config)
  for path in sorted(overrides, key=lambda path: not is_component_name(path)):
    if path in OPTIONAL:
      _make_room(config, path)
    value = plain(overrides[path])
    block = path.removesuffix(".name")
    if path == "schedule.name" and isinstance(config.get(block), ConfigDict):
      _set_schedule(config, value)
    elif is_component_name(path) and isinstance(config.get(block), ConfigDict):
      if config[block].get("name") != value:
        with config.unlocked():
          config[block] = component(block, value)
    else:
      _set(config, path, value)
  return config


def _copied(config: ConfigDict) -> ConfigDict:
  # copy.deepcopy takes four times as long: it asks blocks for `__deepcopy__`,
  # and ml_collections looks for keys of similar names before it says no.
  try:
    return pickle.loads(pickle.dumps(config))
  except (pickle.PicklingError, AttributeError, TypeError):  # As a lambda.
    return copy.deepcopy(config)


def _make_room(config: ConfigDict, path: str) -> None:
  """Puts an optional leaf into a config that lacks it, with its default.

  What a component from outside takes, its factory says.
  """
  block, _, key = path.rpartition(".")
  with config.unlocked():
    holder = config
    for name in block.split("."):
      if isinstance(holder, ConfigDict) and name not in holder:
        holder[name] = ConfigDict()
      holder = holder[name] if isinstance(holder, ConfigDict) else None
    if not isinstance(holder, ConfigDict) or key in holder:
      return
    if not is_outside(str(holder.get("name"))):
      holder[key] = OPTIONAL[path]


def check_leaf(config: ConfigDict, path: str) -> ConfigDict:
  """The block that holds the leaf `path`, or will hold it.

  The latter where it is an option of a component from outside.

  Raises:
    ConfigError: there is no such key, or it is a block.
  """
  node = config
  keys = path.split(".")
  for depth, key in enumerate(keys):
    where = ".".join(keys[:depth])
    if not isinstance(node, ConfigDict):
      raise errors.ConfigError(
        f"config key {path!r}: {where!r} is a value, not a block."
      )
    if key not in node:
      allowed = list(node.keys())
      name = str(node.get("name"))
      if where in _NAMED and depth == len(keys) - 1 and is_outside(name):
        own = own_parts.signature(where, name)
        if own.open_ended or key in own.parameters:
          return node
        allowed += [k for k in own.parameters if k not in allowed]
      # Whoever leaves out the block means a leaf of that name.
      ends = [p for p, _ in leaves(config) if p.endswith(f".{path}")]
      raise errors.ConfigError(
        f"unknown config key {path!r}.{near_misses(key, [*ends, *allowed])}"
        f" Keys of {where or 'the config'}: {', '.join(sorted(allowed))}."
      )
    holder, node = node, node[key]
  if isinstance(node, ConfigDict):
    first = "name" if "name" in node else next(iter(node.keys()), None)
    raise errors.ConfigError(
      f"config key {path!r} is a block and cannot be replaced as a whole"
      + (f": override its leaves, such as '{path}.{first}'." if first else ".")
    )
  return holder


def _set(config: ConfigDict, path: str, value: Any) -> None:
  """Sets one leaf, keeping its type; an outside component may get a new one."""
  holder = check_leaf(config, path)
  last = path.rpartition(".")[2]
  if isinstance(value, Mapping | ConfigDict):
    raise errors.ConfigError(
      f"config key {path!r} is a value; got the block {value!r}."
    )
  problem = None
  block, name = path.rpartition(".")[0], str(holder.get("name"))
  if block in _NAMED and last != "name" and is_outside(name):
    value = own_parts.signature(block, name).typed(last, value)
  if last not in holder:
    with holder.unlocked():
      holder[last] = value
    return
  # A bool is an int to Python, and None fits anything to ml_collections.
  if isinstance(value, bool) and isinstance(holder[last], int | float):
    problem = None if isinstance(holder[last], bool) else TypeError()
  try:
    if problem is None:
      holder[last] = value
  except (TypeError, OverflowError) as error:
    problem = error
  if problem is not None:
    raise errors.ConfigError(
      f"config key {path!r} is {holder.get_type(last).__name__}"
      f" ({holder[last]!r}); got {value!r} ({type(value).__name__})."
    ) from problem


def leaves(
  config: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
  """Yields (dotted path, value), sorted by path."""
  for key in sorted(config):
    value = config[key]
    if isinstance(value, Mapping | ConfigDict) and len(value):
      yield from leaves(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def plain(value: Any) -> Any:
  """Python's own numbers and lists in place of NumPy's."""
  if type(value) in (list, tuple):
    return type(value)(map(plain, value))
  return value.tolist() if hasattr(value, "tolist") else value


def to_dict(config: ConfigDict | dict[str, Any]) -> dict[str, Any]:
  """Plain dicts and lists, references resolved: what `run.json` holds.

  A config that is plain already comes back as it is.

  Raises:
    ConfigError: a value that JSON does not have.
  """
  if isinstance(config, dict):
    return config
  try:
    resolved = json.loads(config.copy_and_resolve_references().to_json())
  except (TypeError, ValueError, _NO_VALUE) as error:
    for path, value in leaves(config):
      if not _is_json(value):
        raise errors.ConfigError(
          f"config key {path!r} is {value!r} ({type(value).__name__}); allowed:"
          " numbers, strings, booleans, None, and lists or tuples of these."
        ) from error
    raise errors.ConfigError(f"the config is not complete: {error}") from error
  optional_leaves.leave_out(resolved, COMPONENTS)
  return resolved


def optional(config: ConfigDict | dict[str, Any], path: str) -> Any:
  """The value of a leaf of `OPTIONAL`, which a resolved config may lack."""
  block, _, key = path.rpartition(".")
  holder = optional_leaves.block_of(to_dict(config), block) or {}
  return holder.get(key, OPTIONAL[path])


def evaluated_split(config: ConfigDict | dict[str, Any]) -> str:
  """What a run's evaluations measure."""
  return optional(config, "evaluate.split")


def _is_json(value: Any) -> bool:
  try:
    json.dumps(value)
  except (TypeError, ValueError):
    return isinstance(value, ConfigDict)
  return True


def render(config: ConfigDict) -> str:
  """One `path = value` per line: the text that golden tests compare."""
  return "".join(
    f"{path} = {json.dumps(value)}\n" for path, value in leaves(to_dict(config))
  )


def digest(value: Any) -> str:
  """Twelve hex digits of the SHA-256 of the canonical JSON of `value`."""
  text = json.dumps(value, sort_keys=True, separators=(",", ":"))
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def decisive(config: ConfigDict | dict[str, Any]) -> dict[str, Any]:
  """What the numbers of a run depend on: all but how fast its data comes."""
  return optional_leaves.without_pace(to_dict(config))


def run_id(config: ConfigDict | dict[str, Any]) -> str:
  """The name of a run: the hash of what decides its numbers."""
  return digest(decisive(config))
