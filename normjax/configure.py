"""Configs: load a file, override by dotted path, render, hash.

A config file defines `get_config(arg="")`, returning an ml_collections
ConfigDict. A *component* is a block with a `name` (model, norm, optimizer,
data); its defaults come from `configs/<folder>/<name>.py`, so overriding a
block's `name` brings that component's own defaults and drops the old ones.
"""

import copy
import difflib
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_collections

from normjax import errors
from normjax.registry import near_misses

ConfigDict = ml_collections.ConfigDict

# Block of the config -> the folder of `configs` that holds its components.
COMPONENTS = {
  "model": "models",
  "norm": "norms",
  "optimizer": "optimizers",
  "data": "data",
}


def configs_dir() -> Path:
  """The folder of config files: the checkout's, else the installed copy."""
  package = Path(__file__).resolve().parent
  checkout = package.parent / "configs"
  return checkout if checkout.is_dir() else package / "configs"


def load_module(path: str | Path) -> ModuleType:
  """Imports a config file, given as a path with or without `.py`.

  A relative path is looked for in the current folder, then beside
  `configs/`.

  Raises:
    ConfigError: the file is missing, does not import, or lacks `get_config`.
  """
  asked = Path(path)
  tries = [asked, configs_dir().parent / asked]
  tries += [p.with_name(p.name + ".py") for p in tries]
  found = next((p for p in tries if p.is_file()), None)
  if found is None:
    known = [
      f"configs/{p.relative_to(configs_dir())}"
      for p in sorted(configs_dir().rglob("*.py"))
    ]
    close = difflib.get_close_matches(str(path), known, n=3)
    raise errors.ConfigError(
      f"no config file {str(path)!r}."
      + (f" Did you mean {' or '.join(close)}?" if close else "")
    )
  spec = importlib.util.spec_from_file_location(
    f"normjax_config_{found.stem}", found
  )
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except Exception as error:
    raise errors.ConfigError(
      f"config file {found} does not import: {type(error).__name__}: {error}"
    ) from error
  if not hasattr(module, "get_config"):
    raise errors.ConfigError(f"config file {found} defines no get_config().")
  return module


def load(path: str | Path) -> ConfigDict:
  """The config of `file.py` or `file.py:arg`."""
  file, _, arg = str(path).partition(":")
  module = load_module(file)
  try:
    config = module.get_config(arg) if arg else module.get_config()
  except errors.UserError:
    raise
  except Exception as error:
    raise errors.ConfigError(
      f"get_config({arg!r}) of {file} failed: {type(error).__name__}: {error}"
    ) from error
  if not isinstance(config, ConfigDict):
    raise errors.ConfigError(
      f"get_config() of {file} returned {type(config).__name__};"
      " a ml_collections.ConfigDict is needed."
    )
  return config


def component(block: str, name: str, **options: Any) -> ConfigDict:
  """The default block of a component, with some options replaced.

  Raises:
    UnknownNameError: `configs/<folder>/<name>.py` does not exist.
    ConfigError: an option that the block does not have, or of another type.
  """
  folder = configs_dir() / COMPONENTS[block]
  file = folder / f"{name}.py"
  if not file.is_file():
    names = sorted(p.stem for p in folder.glob("*.py"))
    raise errors.UnknownNameError(
      f"unknown {block} {name!r}.{near_misses(name, names)}"
      f" Known: {', '.join(names)}."
    )
  config = load(file)
  if config.get("name") != name:
    raise errors.ConfigError(
      f"{file} must set name={name!r}, got {config.get('name')!r}."
    )
  return override(config, options)


def is_component_name(path: str) -> bool:
  """Whether a dotted path names the component of a block."""
  block, _, key = path.rpartition(".")
  return key == "name" and block in COMPONENTS


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
  config = copy.deepcopy(config)
  for path in sorted(overrides, key=lambda path: not is_component_name(path)):
    value = overrides[path]
    block = path.removesuffix(".name")
    if is_component_name(path) and block in config:
      if config[block].name != value:
        with config.unlocked():
          config[block] = component(block, value)
    else:
      _set(config, path, value)
  return config


def check_leaf(config: ConfigDict, path: str) -> ConfigDict:
  """The block that holds the leaf `path`.

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
      raise errors.ConfigError(
        f"unknown config key {path!r}.{near_misses(key, allowed)}"
        f" Keys of {where or 'the config'}: {', '.join(sorted(allowed))}."
      )
    holder, node = node, node[key]
  if isinstance(node, ConfigDict):
    raise errors.ConfigError(
      f"config key {path!r} is a block and cannot be replaced as a whole:"
      f" override its leaves, such as '{path}.{next(iter(node.keys()))}'."
    )
  return holder


def _set(config: ConfigDict, path: str, value: Any) -> None:
  """Sets one existing leaf, keeping its type."""
  holder = check_leaf(config, path)
  last = path.rpartition(".")[2]
  if isinstance(value, Mapping | ConfigDict):
    raise errors.ConfigError(
      f"config key {path!r} is a value; got the block {value!r}."
    )
  try:
    holder[last] = value
  except TypeError as error:
    raise errors.ConfigError(
      f"config key {path!r} is {type(holder[last]).__name__}"
      f" ({holder[last]!r}); got {value!r} ({type(value).__name__})."
    ) from error


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


def to_dict(config: ConfigDict) -> dict[str, Any]:
  """Plain dicts and lists, references resolved: what `run.json` holds."""
  return json.loads(config.copy_and_resolve_references().to_json())


def render(config: ConfigDict) -> str:
  """One `path = value` a line: the text that golden tests compare."""
  return "".join(
    f"{path} = {json.dumps(value)}\n" for path, value in leaves(to_dict(config))
  )


def digest(value: Any) -> str:
  """Twelve hex digits of the SHA-256 of the canonical JSON of `value`."""
  text = json.dumps(value, sort_keys=True, separators=(",", ":"))
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_id(config: ConfigDict) -> str:
  """The name of a run: the hash of its resolved config."""
  return digest(to_dict(config))
