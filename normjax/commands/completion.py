"""Prints a script that completes commands, flags and keys of a config.

    normjax completion bash > ~/.normjax.bash  # once, and after an update
    source ~/.normjax.bash                     # in ~/.bashrc

For zsh likewise, in ~/.zshrc. The script holds the words, so that completing
starts no Python.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterable, Mapping
from types import ModuleType

from absl import flags

from normjax import commands, configure, errors, fields, registry
from normjax.commands import arguments, helping, slips

USAGE = "completion bash|zsh"
# What both shells read. In bash `=` and `:` end a word, and what is completed
# is what follows; zsh has the words whole.
_SCRIPT = r"""
_normjax_words() {
  case $1 in
@WORDS@
  esac
}
_normjax_values() {
  case $1 in
@VALUES@
  esac
}
_normjax() {
  local line=${COMP_LINE:0:$COMP_POINT} cur="" command="" strip="" end=""
  local candidates="" word=""
  cur=${line##*[[:space:]]}
  if [ -z "$ZSH_VERSION" ]; then
    end=" "
    case $cur in *[=:]*) strip=${cur%"${cur##*[=:]}"} ;; esac
  fi
  COMPREPLY=()
  if [ "$COMP_CWORD" -gt 1 ]; then command=${COMP_WORDS[1]}; fi
  case $cur in
    -*=*) candidates=$(_normjax_values "${cur%%=*}") ;;
    *) candidates=$(_normjax_words "$command") ;;
  esac
  while IFS= read -r word; do
    case $word in
      "") ;;
      -*) if [ -z "$cur" ]; then continue; fi ;;
    esac
    case $word in
      "$cur"*=) COMPREPLY+=("${word#"$strip"}") ;;
      "$cur"*) COMPREPLY+=("${word#"$strip"}$end") ;;
    esac
  done <<END
$candidates
END
}
complete -o default -o nospace -F _normjax normjax
"""
_HEADS = {
  "bash": "# Completion of normjax in bash.",
  "zsh": (
    "# Completion of normjax in zsh, by its reader of bash's completions.\n"
    "autoload -Uz compinit bashcompinit\n"
    "(( $+functions[compdef] )) || compinit\n"
    "bashcompinit"
  ),
}


def define_flags(values: flags.FlagValues) -> None:
  """No flags of its own."""


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Prints the script."""
  del overrides, values
  shell = arguments.one(positional, "shell, bash or zsh", USAGE)
  if shell not in _HEADS:
    near = registry.near_misses(shell, _HEADS)
    raise errors.UserError(f"no completion for {shell!r}.{near}"
                           f" Shells: {', '.join(_HEADS)}.")  # fmt: skip
  print(_HEADS[shell] + _script(), end="")
  return 0


def _script() -> str:
  """The functions that both shells read."""
  script = _SCRIPT.replace("@WORDS@", _cases(words()))
  return script.replace("@VALUES@", _cases(values_of()))


def words() -> dict[str, list[str]]:
  """What may follow each command; after "" the commands."""
  found = {module.USAGE.split()[0]: module for module in _modules()}
  keys = [f"{slips.OVERRIDE}{key}=" for key in _keys()]
  return {
    "": [*sorted(found), "--help", "--version"],
    **{
      name: [
        *_choices(module),
        *_names(module),
        *_flags(module),
        *(keys if slips.OVERRIDE in module.USAGE else []),
      ]
      for name, module in found.items()
    },
  }


def values_of() -> dict[str, list[str]]:
  """The words that begin with a flag or a key and `=`, by that flag or key."""
  found: dict[str, list[str]] = {}
  for key, example in _keys().items():
    flag = f"{slips.OVERRIDE}{key}"
    found[flag] = [f"{flag}={value}" for value in _allowed(key, example)]
  for module in _modules():
    for flag in _defined(module):
      if isinstance(flag, flags.EnumFlag):
        found[f"--{flag.name}"] = [
          f"--{flag.name}={value}" for value in flag.parser.enum_values
        ]
  return {flag: values for flag, values in found.items() if values}


def _modules() -> Iterable[ModuleType]:
  """The commands, as their files say."""
  for each in pkgutil.iter_modules(commands.__path__):
    module = importlib.import_module(f"{commands.__name__}.{each.name}")
    if hasattr(module, "USAGE"):
      yield module


def _choices(module: ModuleType) -> list[str]:
  """The words of a usage between which one may choose."""
  positional = re.sub(r"\[?-\S*", "", module.USAGE)
  found = re.findall(r"[\w]+(?:\|[\w]+)+", positional)
  return [word for choice in found for word in choice.split("|")]


def _names(module: ModuleType) -> list[str]:
  """Names of config files that a command takes without their folder."""
  folder = getattr(module, "NAMES_FROM", "")
  return list(configure.component_files(folder)) if folder else []


def _defined(module: ModuleType) -> list[flags.Flag]:
  values = flags.FlagValues()
  module.define_flags(values)
  return [values[name] for name in helping.names(values)]


def _flags(module: ModuleType) -> list[str]:
  """Flags as they are typed, those with a value up to the `=`."""
  written = [helping.written(flag) for flag in _defined(module)]
  return [re.sub("=.*", "=", text) for text in written] + ["--help"]


def _keys() -> dict[str, object]:
  """Every key of a config, also of components, with a value that it has."""
  default = configure.load("configs/default.py")
  found = dict.fromkeys(slips.keys()) | dict(configure.leaves(default))
  for block, folder in configure.COMPONENTS.items():
    for name in configure.component_files(folder):
      component = configure.component(block, name)
      for key, value in configure.leaves(component, f"{block}."):
        found.setdefault(key, value)
  return found


def _allowed(key: str, example: object) -> list[str]:
  """The values of a key that can be listed."""
  block = key.removesuffix(".name")
  if block in configure.COMPONENTS and key != block:
    return list(configure.component_files(configure.COMPONENTS[block]))
  field = fields.FIELDS.get(key)
  if field is not None and field.choices:
    return list(field.choices)
  is_flag = isinstance(example, bool) or (field and field.kind is bool)
  return ["True", "False"] if is_flag else []


def _cases(words_by_name: Mapping[str, Iterable[str]]) -> str:
  """Arms of a shell's `case`, each of which prints words, one per line."""
  return "\n".join(
    f'    "{name}") cat <<END\n' + "\n".join(words) + "\nEND\n    ;;"
    for name, words in words_by_name.items()
  )
