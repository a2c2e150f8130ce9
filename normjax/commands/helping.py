"""What `--help` and `--version` print."""

import importlib.metadata
import platform
import textwrap
from types import ModuleType

from absl import flags

import normjax

# What a number depends on first; their versions are read, not imported.
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
# absl makes these in every set of flags.
_FOREIGN = ("flagfile", "undefok")
_WIDTH_CHARS = 78
_INDENT = 6


def version() -> str:
  """The versions of this project and of what its numbers depend on."""
  lines = [f"normjax {normjax.__version__}"]
  for package in _PACKAGES:
    try:
      lines.append(f"{package} {importlib.metadata.version(package)}")
    except importlib.metadata.PackageNotFoundError:
      lines.append(f"{package} is not installed")
  lines.append(f"python {platform.python_version()}, {platform.platform()}")
  return "\n".join(lines)


def names(values: flags.FlagValues) -> list[str]:
  """A command's own flags, in the order of their names."""
  return sorted(set(values) - set(_FOREIGN))


def of_command(module: ModuleType, values: flags.FlagValues) -> str:
  """Usage, what the command does, and its flags."""
  lines = [f"usage: normjax {module.USAGE}", "", module.__doc__.strip(), ""]
  for name in names(values):
    lines += _of_flag(values[name])
  return "\n".join(lines)


def _of_flag(flag: flags.Flag) -> list[str]:
  default = ""
  if flag.default not in (None, False, "", []):
    default = f" Default: {flag.default_as_str.strip(chr(39))}."
  said = flag.help
  if isinstance(flag, flags.EnumFlag):  # absl puts the choices in front.
    said = said.partition(">: ")[2]
  text = f"{said}{default}"
  space = " " * _INDENT
  return [
    f"  {written(flag)}",
    *textwrap.wrap(text, _WIDTH_CHARS, initial_indent=space,
                   subsequent_indent=space),
  ]  # fmt: skip


def written(flag: flags.Flag) -> str:
  """How a flag is typed, as in `--workers=N`."""
  if flag.boolean:
    return f"--{'no' if flag.default else ''}{flag.name}"
  if isinstance(flag, flags.EnumFlag):
    return f"--{flag.name}={'|'.join(flag.parser.enum_values)}"
  kind = {"int": "N", "float": "X"}.get(flag.flag_type(), "TEXT")
  if isinstance(flag, flags.MultiFlag) or "list" in flag.flag_type():
    kind = "A,B,…"
  return f"--{flag.name}={kind}"
