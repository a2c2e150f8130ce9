"""Lists what a config can name, with the paper or source of each.

What a folder `configs` here has is listed too.
"""

import ast
import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path

from absl import flags

from normjax import (
  adapt,
  config_files,
  configure,
  convert,
  errors,
  metrics,
  registry,
)
from normjax.convert import architecture
from normjax.norms import weights
from normjax.similarity import heads

USAGE = (
  "list [norms|weight_norms|optimizers|models|heads|data|objectives|metrics"
  "|start_steps|architectures|placements|residual_scalings|inits"
  "|rotary_scalings|mixings|linears|schedules|gradients|sweeps|papers"
  "|adaptation|learners|context|procedures]"
)
_FOLDERS = (*sorted(set(configure.COMPONENTS.values())), "sweeps", "papers")
# What has no config, by name, from "module:factory": options of a model,
# entries of evaluate.metrics, of train.initialize_from, of procedures.
_TABLES: Mapping[str, Mapping[str, str] | str] = {
  "weight_norms": weights.TABLE,
  "heads": heads.TABLE,
  "metrics": metrics.TABLE,
  "start_steps": convert.TABLE,
  "architectures": architecture.TABLE,
  "adaptation": adapt.TABLE,
  # Read where they are asked for: their packages import jax.
  "learners": "normjax.continual:TABLE",
  "context": "normjax.context:TABLE",
  "procedures": "normjax.procedures:TABLE",
}
# Tables of several entries per file, or of descriptions: these are imported.
_IMPORTED = {
  "placements": "normjax.nn.placement:TABLE",
  "residual_scalings": "normjax.nn.residual_scaling:TABLE",
  "inits": "normjax.nn.initial:TABLE",
  "rotary_scalings": "normjax.nn.rotary_scaling:TABLE",
  "mixings": "normjax.nn.mixing:TABLE",
  "linears": "normjax.nn.linear:TABLE",
  "schedules": "normjax.train.schedules:TABLE",
  "gradients": "normjax.train.gradient:TABLE",
}
_ALLOWED = (*_FOLDERS, *_TABLES, *_IMPORTED)


def define_flags(values: flags.FlagValues) -> None:
  """No flags of its own."""


def _headline(file: Path) -> str:
  """The first line of a file's docstring, without running the file."""
  text = ast.get_docstring(ast.parse(file.read_text())) or ""
  return text.partition("\n")[0]


def _entries(what: str) -> dict[str, str]:
  """Each name, with its headline."""
  if what not in _IMPORTED:
    return {name: _headline(file) for name, file in _files(what).items()}
  table = registry.load(_IMPORTED[what])
  if isinstance(table, Mapping):
    documented = {name: registry.load(table[name]) for name in table}
    return {
      name: (inspect.getdoc(entry) or "").partition("\n")[0]
      for name, entry in documented.items()
    }
  entries = [table.resolve(name) for name in table.names()]
  return {
    entry.name: ": ".join(filter(None, (entry.formula, entry.source)))
    for entry in entries
  }


def _files(what: str) -> dict[str, Path]:
  """The file that says what it is, by name."""
  if what not in _TABLES:
    return configure.component_files(what)
  table = _TABLES[what]
  if isinstance(table, str):
    table = registry.load(table)
  return {name: _file(target) for name, target in table.items()}


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
    entries = _entries(what)
    if not entries:
      continue
    print(what)
    width = max(map(len, entries))
    for name, headline in entries.items():
      print(f"  {name:{width}}  {headline}")
  return 0
