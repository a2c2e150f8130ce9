"""Lists what a config can name, with the paper or source of each."""

import ast
from pathlib import Path

from absl import flags

from normjax import configure, errors

USAGE = "list [norms|optimizers|models|data|sweeps|papers]"
_FOLDERS = (*sorted(set(configure.COMPONENTS.values())), "sweeps", "papers")


def define_flags(values: flags.FlagValues) -> None:
  """No flags of its own."""


def _headline(file: Path) -> str:
  """The first line of a file's docstring, without running the file."""
  text = ast.get_docstring(ast.parse(file.read_text())) or ""
  return text.partition("\n")[0]


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Prints one line a config file."""
  del overrides, values
  for folder in positional:
    if folder not in _FOLDERS:
      raise errors.UserError(
        f"cannot list {folder!r}; allowed: {', '.join(_FOLDERS)}."
      )
  for folder in positional or _FOLDERS:
    files = sorted((configure.configs_dir() / folder).glob("*.py"))
    if not files:
      continue
    print(folder)
    width = max(len(file.stem) for file in files)
    for file in files:
      print(f"  {file.stem:{width}}  {_headline(file)}")
  return 0
