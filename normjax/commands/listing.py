"""Lists what a config can name, with the paper or source of each.

What a folder `configs` here has is listed too.
"""

import ast
import importlib.util
from pathlib import Path

from absl import flags

from normjax import config_files, configure, convert, errors, metrics, registry
from normjax.norms import weights

USAGE = (
  "list [norms|weight_norms|optimizers|models|data|objectives|metrics"
  "|start_steps|sweeps|papers]"
)
_FOLDERS = (*sorted(set(configure.COMPONENTS.values())), "sweeps", "papers")
# What has no config, by name, from "module:factory": options of a model,
# entries of evaluate.metrics and of train.initialize_from.
_TABLES = {
  "weight_norms": weights.TABLE,
  "metrics": metrics.TABLE,
  "start_steps": convert.TABLE,
}
_ALLOWED = (*_FOLDERS, *_TABLES)


def define_flags(values: flags.FlagValues) -> None:
  """No flags of its own."""


def _headline(file: Path) -> str:
  """The first line of a file's docstring, without running the file."""
  text = ast.get_docstring(ast.parse(file.read_text())) or ""
  return text.partition("\n")[0]


def _files(what: str) -> dict[str, Path]:
  """The file that says what it is, by name."""
  if what not in _TABLES:
    return configure.component_files(what)
  return {name: _file(target) for name, target in _TABLES[what].items()}


def _file(target: str) -> Path:
  """The file of one of our modules, which need not be imported."""
  package, *inner = target.partition(":")[0].split(".")
  spec = importlib.util.find_spec(package)
  assert spec is not None
  assert spec.origin is not None
  return Path(spec.origin).parent.joinpath(*inner).with_suffix(".py")


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Prints one line per config file, or an entry of a table."""
  del overrides, values
  config_files.search_here()
  for what in positional:
    if what not in _ALLOWED:
      raise errors.UserError(
        f"cannot list {what!r}.{registry.near_misses(what, _ALLOWED)}"
        f" Allowed: {', '.join(_ALLOWED)}."
      )
  for what in positional or _ALLOWED:
    files = _files(what)
    if not files:
      continue
    print(what)
    width = max(map(len, files))
    for name, file in files.items():
      print(f"  {name:{width}}  {_headline(file)}")
  return 0
