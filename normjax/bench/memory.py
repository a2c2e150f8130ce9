"""What each method of a sweep takes at a real size, on a chip that is not here.

The training step of each is compiled with the donation of real training, and
its bytes are counted: to the byte of what it holds, as its compiler says of the
rest. Nothing runs, and no time is claimed. `normjax.record.costs` says what the
numbers are.
"""

import datetime
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend import core
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import normjax
from kernels_pallas import aot
from kernels_pallas.bench import passes
from normjax import config_files, configure, errors, faults, memory
from normjax.bench import compiled_steps
from normjax.nn import variables as nn_variables
from normjax.nn.linear.base import Untrained
from normjax.record import costs as record
from normjax.record import files, provenance
from normjax.sweep import costs as costs_lib
from normjax.sweep import loading, plan
from normjax.train import block_gradients, frozen, leaf_by_leaf, param_dtype
from normjax.train.state import State, num_params
from normjax.train.step import Recipe
from normjax.train.throughput import model_flops
from normjax.types import Hyper, PyTree

_COLUMNS = {
  "parameters": "parameters_bytes",
  "untrained": "untrained_bytes",
  "optimizer": "optimizer_state_bytes",
  "gradients": "gradients_bytes",
  "temporaries": "temporaries_bytes",
  "peak": "peak_bytes",
  "moved, most": "moved_high_bytes",
}
_NOTE = (
  "MB, of a step that is compiled and not run. Gradients are counted by"
  " definition; they are among the temporaries. The last: parameters and"
  " optimizer states as papers count them, 16 bits per number."
)


def run(console: Console, options: Mapping[str, Any], path: str) -> None:
  """Compiles the methods that the file lacks, and writes each as it comes.

  Args:
    console: where the table goes.
    options: the flags of `normjax bench` by name.
    path: of the sweep's file.

  Raises:
    UserError: a target without a compiler, a file of another sweep or target,
      a label that is none; what `sweep.costs.large` raises.
  """
  target = _target(options["target"])
  config_files.search_beside(path)
  config, sweep = loading.load(path, {})
  labels = plan.Comparison(sweep, config).labels
  configs = costs_lib.large(path, labels)
  file = _file(options["out"], sweep.costs)
  value = _begun(file, path, target, configs)
  unknown = [name for name in options["methods"] if name not in configs]
  if unknown:
    raise errors.UserError(
      f"--methods={','.join(options['methods'])}: no {', '.join(unknown)};"
      f" allowed: {', '.join(configs)}."
    )
  if reason := aot.missing(target):
    raise errors.UserError(f"--target={target}: {reason}")
  faults.make_writable(file.parent)
  for label in options["methods"] or configs:
    key = costs_lib.fingerprint(configs[label])
    before = value["methods"].get(label, {})
    if before.get("fingerprint") == key and "error" not in before:
      continue
    with console.status(f"{label}, {target}"):
      entry = _entry(configs[label], target)
    console.print(_said(label, entry), markup=False, highlight=False)
    value["methods"][label] = {"fingerprint": key, **_made(target), **entry}
    files.write_json(file, value)
    jax.clear_caches()  # Programs of tens of branches are large.
  _show(console, value, configs, target)
  console.print(str(file), markup=False, highlight=False)


def _target(named: list[str]) -> str:
  if len(named) != 1 or named[0] not in aot.TARGETS:
    raise errors.UserError(
      f"--target={','.join(named)}: allowed: one of {', '.join(aot.TARGETS)}."
    )
  return named[0]


def _file(out: str | None, costs: costs_lib.Costs | None) -> Path:
  if out is None and costs is None:
    raise errors.UserError(
      "needs --out=FILE.json: the sweep names no file of costs."
    )
  return costs_lib.Costs(out).path() if out is not None else costs.path()


def _begun(
  file: Path,
  path: str,
  target: str,
  configs: Mapping[str, configure.ConfigDict],
) -> dict[str, Any]:
  """What the file holds already, or nothing yet."""
  model = sorted({_model(config) for config in configs.values()})
  fresh = {
    "sweep": costs_lib.sweep_name(path),
    "argument": configure.split_argument(path)[1],
    "target": target,
    "model": ", ".join(model),
    "command": f"normjax bench memory {path} --target={target}",
    "methods": {},
  }
  value = record.read(file)
  if value is None:
    return fresh
  for key in ("sweep", "argument", "target", "model"):
    if value.get(key) != fresh[key]:
      raise errors.UserError(
        f"{file} has {key}={value.get(key)!r}, not {fresh[key]!r}; allowed:"
        " another --out."
      )
  return value


def _model(config: configure.ConfigDict) -> str:
  size = config.model.get("size")
  return f"{config.model.name} {size}" if size else config.model.name


def _made(target: str) -> dict[str, Any]:
  """Where an entry is from."""
  git = provenance.git() or {}
  wheels = ("jax", "jaxlib", *aot.TARGETS[target].wheels)
  versions = {name: _version(name) for name in wheels}
  return {
    "provenance": {
      "normjax": normjax.__version__,
      "commit": git.get("commit"),
      "dirty": git.get("dirty"),
      "packages": versions,
      "created": datetime.datetime.now(datetime.UTC).isoformat(),
    }
  }


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None  # As ptxas of a toolkit.


def _entry(config: configure.ConfigDict, target: str) -> dict[str, Any]:
  """The numbers of a method, or why there are none."""
  try:
    return measure(config, target)
  except aot.MissingError as error:
    raise errors.UserError(str(error)) from error
  except Exception as error:  # Of any compiler's; the others go on.
    first = str(error).strip().partition("\n")[0]
    return {"error": f"{type(error).__name__}: {first}"}


def measure(config: configure.ConfigDict, target: str) -> dict[str, Any]:
  """The numbers of `record.costs.Cost` for a config's training step.

  Args:
    config: at the size that is meant.
    target: a name of `aot.TARGETS`.

  Returns:
    Them by name, and the optimizer's state by dtype.
  """
  with aot.abstract(target):
    recipe, step = compiled_steps.recipe_and_step(config)
    state, *_ = step.arguments
    gradients = differentiated(recipe, *step.arguments)
  compiled = aot.compile(
    step.function, *step.arguments, target=target, donate=step.donated,
    machine_code=False,
  )  # fmt: skip
  untrained = _untrained(recipe, state)
  held = {
    "parameters_bytes": passes.size_bytes(state.params),
    "untrained_bytes": passes.size_bytes(untrained),
    "optimizer_state_bytes": passes.size_bytes(state.optimizer_state),
  }
  held["other_state_bytes"] = passes.size_bytes(state) - sum(held.values())
  inputs_bytes = compiled.argument_bytes - sum(held.values())
  if inputs_bytes < 0:
    raise RuntimeError("the step does not read all of its state.")
  low, high = compiled.moved_bytes
  return {
    "num_params": num_params(state.params),
    **held,
    "gradients_bytes": passes.size_bytes(gradients),
    "inputs_bytes": inputs_bytes,
    "outputs_bytes": compiled.output_bytes - compiled.alias_bytes,
    "temporaries_bytes": compiled.temporary_bytes,
    "peak_bytes": compiled.peak_bytes,
    "moved_low_bytes": low,
    "moved_high_bytes": high,
    "kernels": compiled.kernels,
    "flops": _flops(compiled.jaxpr),
    "paper_weights_bytes": paper_bytes((state.params, untrained)),
    "paper_gradients_bytes": paper_bytes(gradients),
    "paper_state_bytes": paper_bytes(state.optimizer_state),
    "optimizer_state_bytes_by_dtype": _by_dtype(state.optimizer_state),
  }


def differentiated(
  recipe: Recipe, state: State, batch: PyTree, hyper: Hyper
) -> PyTree:
  """Shapes of the gradients that a step takes; a tree without leaves: of none.

  An estimate whose leaves are made when their turn comes has none of these.

  Args:
    recipe: of the step.
    state: in shapes, like the others.
    batch: of a step.
    hyper: the run's scalars.
  """
  estimate = recipe.gradient.estimate

  def found(state, batch, hyper):
    if estimate is not None:
      leaves = jax.tree.leaves(estimate(recipe, state, batch, hyper).gradients)
      return [x for x in leaves if not isinstance(x, leaf_by_leaf.Deferred)]
    trained = param_dtype.widen(frozen.select(state.params, recipe.trained))
    how = block_gradients.taken(recipe, state, hyper, trained)

    def total(trained, grad_stats):
      return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(trained)), ()

    (gradients, _), _ = how.grad(total, trained, state.grad_stats)
    return gradients

  return jax.eval_shape(found, state, batch, hyper)


def _flops(traced: core.ClosedJaxpr | None) -> float | None:
  try:
    return None if traced is None else model_flops.products(traced.jaxpr)
  except model_flops.UnknownError:
    return None


def _untrained(recipe: Recipe, state: State) -> PyTree:
  """What belongs to matrices and no gradient moves."""
  model = nn_variables.merge(recipe.graphdef, state.variables())
  return jax.tree.leaves(nnx.state(model, Untrained))


def paper_bytes(tree: PyTree) -> int:
  """Bytes where no floating-point number takes more than 16 bits."""
  return sum(map(memory.paper_bytes, jax.tree.leaves(tree)))


def _by_dtype(tree: PyTree) -> dict[str, int]:
  found: dict[str, int] = {}
  for leaf in jax.tree.leaves(tree):
    name = str(leaf.dtype)
    size = leaf.size * leaf.dtype.itemsize
    found[name] = found.get(name, 0) + size
  return dict(sorted(found.items()))


def _said(label: str, entry: Mapping[str, Any]) -> str:
  if "error" in entry:
    return f"{label}: {entry['error']}"
  return f"{label}: peak {_megabytes(entry['peak_bytes'])} MB"


def _megabytes(count: int) -> str:
  return f"{count / 1e6:,.1f}"


def _show(
  console: Console,
  value: Mapping[str, Any],
  configs: Mapping[str, Any],
  target: str,
) -> None:
  title = f"a step of {value['model']} on {target}"
  table = Table(box=box.SIMPLE_HEAD, title=title, padding=0)
  table.add_column("method", overflow="fold")
  for name in (*_COLUMNS, "papers"):
    table.add_column(name, justify="right")
  for label in configs:
    entry = value["methods"].get(label, {"error": "not compiled"})
    if "error" in entry:
      table.add_row(Text(label), Text(entry["error"]))
      continue
    papers = record.cost(entry).paper_bytes
    numbers = [*(entry[key] for key in _COLUMNS.values()), papers]
    table.add_row(Text(label), *map(_megabytes, numbers))
  console.print(table)
  console.print(_NOTE, markup=False, highlight=False)
