"""What was probably meant, where a command line is not what it must be."""

import importlib
from collections.abc import Iterable, Mapping, Sequence

from absl import flags

from normjax import configure, errors, fields
from normjax.commands import helping
from normjax.registry import near_misses

OVERRIDE = "--config."
_MOST_NAMED = 3


def unknown_flag(
  command: str,
  token: str,
  values: flags.FlagValues,
  commands: Mapping[str, Sequence[str]],
) -> errors.UserError:
  """The error of a flag that a command does not have.

  Args:
    command: its name.
    token: as it was typed.
    values: the command's flags.
    commands: all commands; the first item of each is its module's name.
  """
  name = token.lstrip("-").partition("=")[0]
  said = f"normjax {command} has no flag --{name}."
  if name == "config":
    said += (
      f" The config file has no flag: normjax {command} FILE; keys of the"
      f" config are written {OVERRIDE}key=value."
    )
  elif keys := _keys(name):
    value = token.partition("=")[2] or "VALUE"
    meant = " or ".join(f"{OVERRIDE}{key}={value}" for key in keys)
    said += f" Keys of the config are written so: {meant}."
  elif owners := _owners(name, commands):
    said += f" It is one of normjax {' and normjax '.join(owners)}."
  else:
    own = helping.names(values)
    said += near_misses(name, own)
    said += f" Flags: {', '.join(f'--{each}' for each in own)}."
  return errors.UserError(said)


def _keys(name: str) -> list[str]:
  """The keys of a config that a name without `config.` may mean."""
  known = keys()
  *blocks, last = name.split(".")
  if blocks:
    first = {key.partition(".")[0] for key in known}
    if blocks[0] in first:
      return [name]
    # A misspelt "config.": what follows is a key.
    rest = ".".join([*blocks[1:], last])
    return [rest] if rest in known else []
  ends = [key for key in known if key.rpartition(".")[2] == last]
  return ends[:_MOST_NAMED]


def keys() -> list[str]:
  """The keys of the default config, and those that it may lack."""
  default = configure.load("configs/default.py")
  found = [key for key, _ in configure.leaves(default)]
  return list(dict.fromkeys([*found, *fields.FIELDS, *configure.OPTIONAL]))


def _owners(name: str, commands: Mapping[str, Sequence[str]]) -> Iterable[str]:
  """The commands that have a flag."""
  found = []
  for command, (module, *_) in commands.items():
    values = flags.FlagValues()
    importlib.import_module(f"normjax.commands.{module}").define_flags(values)
    if name in helping.names(values):
      found.append(command)
  return found


def positional(given: Sequence[str]) -> str:
  """What is in place of an argument that is no such thing, or "".

  Args:
    given: all that is no flag.
  """
  for text in given:
    if text.startswith("-") and len(given) > 1:
      return f"{text}: after `--` nothing is a flag; put it in front of that"
    if "=" in text and _keys(text.partition("=")[0]):
      return f"{text}: a key of the config is written {OVERRIDE}{text}"
  if len(given) > 1 and len(set(given)) == 1:
    return f"{given[0]} is given {len(given)} times"
  return ""
