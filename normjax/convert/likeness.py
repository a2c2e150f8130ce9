"""Whether two models compute the same function of their variables."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flax import nnx

from normjax import errors
from normjax.nn.variables import value_of

# What changes how a model is trained or run, and no logit of an evaluation but
# for roundings.
_RUN_ONLY = {
  "deterministic",
  "dropout_rate",
  "drop_path_rate",
  "drop_path_rates",
  "drop_rate",
  "dtype",
  "impl",
  "param_dtype",
  "remat",
  "scan_layers",
  "stochastic_depth_rate",
  "use_running_average",
}
_MOST_NAMED = 3
_PLAIN = (bool, int, float, str, type(None))


def differences(
  ours: nnx.Module, theirs: nnx.Module, without: Sequence[str] = ()
) -> str:
  """What differs, in a line; "" where nothing does.

  "layers/0/attention.rope_theta is 1e4 here and 5e5 there (and 11 more)".
  Compared are the settings that modules keep as attributes, norms with their
  options among them, and which variables there are, of which shapes. What only
  a run is told by (dropout, dtypes, how layers are looped over) may differ.

  Args:
    ours: a model, "here".
    theirs: another, "there".
    without: paths of modules that are not compared.
  """
  places: dict[str, list[str]] = {}
  for place, said in _differences(ours, theirs):
    if not is_within(place, without):
      places.setdefault(said, []).append(place)
  lines = []
  for said, where in places.items():
    # Blocks of one kind differ in the same way.
    more = errors.and_more(len(where) - 1)
    lines.append(f"{where[0]}{said}" + (f" ({more})" if more else ""))
  return errors.few(lines, _MOST_NAMED, "; ")


def is_within(path: str, modules: Sequence[str]) -> bool:
  """Whether a path is that of one of the modules, or of a part of it."""
  return any(f"{path}/".startswith(f"{module}/") for module in modules)


def _differences(
  ours: nnx.Module, theirs: nnx.Module
) -> Iterator[tuple[str, str]]:
  """(place, what differs there)."""
  here, there = _modules(ours), _modules(theirs)
  for path in sorted({*here, *there}):
    if path not in there or path not in here:
      yield path, _presence(path in there)
      continue
    mine, other = _settings(here[path]), _settings(there[path])
    for name in sorted({*mine, *other}):
      if mine.get(name) != other.get(name):
        values = f"{mine.get(name)!r} here and {other.get(name)!r} there"
        yield path or "the model", f".{name} is {values}"
  yield from _of_variables(_shapes(ours), _shapes(theirs))


def _of_variables(
  here: Mapping[str, tuple[int, ...]], there: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, str]]:
  for path in sorted({*here, *there}):
    if path not in here or path not in there:
      yield path, _presence(path in there)
    elif here[path] != there[path]:
      yield path, f" is {here[path]} here and {there[path]} there"


def _presence(is_there: bool) -> str:
  return " is there, and not here" if is_there else " is not there"


def _shapes(model: nnx.Module) -> dict[str, tuple[int, ...]]:
  return {
    "/".join(map(str, path)): value_of(variable).shape
    for path, variable in nnx.to_flat_state(nnx.state(model))
    if not isinstance(variable, nnx.RngState)
  }


def _modules(model: nnx.Module) -> dict[str, nnx.Module]:
  return {
    "/".join(map(str, path)): module for path, module in nnx.iter_modules(model)
  }


def _settings(module: nnx.Module) -> dict[str, Any]:
  """What a module keeps of its options, in comparable form."""
  found = {"type": type(module).__name__}
  # Flax's layers are told by their variables.
  if type(module).__module__.startswith("flax."):
    return found
  for name, value in vars(module).items():
    if name not in _RUN_ONLY and not name.startswith("_"):
      found |= _plain(name, value)
  return found


def _plain(name: str, value: Any) -> dict[str, Any]:
  """Numbers and texts as they are, of what has several each by its name."""
  if isinstance(value, _PLAIN):
    return {name: value}
  if isinstance(value, nnx.Pytree | nnx.Variable):
    return {}  # A module within, which is compared for itself.
  if isinstance(value, frozenset):
    return {name: sorted(map(repr, value))}
  if isinstance(value, tuple | list):
    parts = [_plain("", part) for part in value]
    # Where one of them is not to be compared, none is.
    shown = tuple(part.get("", part) for part in parts)
    return {name: shown} if all(parts) else {}
  if hasattr(value, "name") and hasattr(value, "options"):
    options = {
      f"{name}.{key}": option if isinstance(option, _PLAIN) else repr(option)
      for key, option in value.options.items()
      if key not in _RUN_ONLY
    }
    return {name: value.name, **options}
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    found = {}
    for field in dataclasses.fields(value):
      if field.name not in _RUN_ONLY:
        found |= _plain(f"{name}.{field.name}", getattr(value, field.name))
    return found
  # An activation is told by its name; how a kernel starts does not matter.
  if callable(value) and not name.endswith("_init"):
    return {name: getattr(value, "__qualname__", type(value).__qualname__)}
  return {}
