"""Whether two models compute the same function of their variables."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from flax import nnx

from normjax.nn.variables import value_of

# What changes how a model is trained or run, and no logit of an evaluation but
# for roundings.
_RUN_ONLY = {
  "dropout_rate",
  "drop_path_rate",
  "drop_path_rates",
  "dtype",
  "impl",
  "remat",
  "scan_layers",
}
_PLAIN = (bool, int, float, str, type(None))


def differences(ours: nnx.Module, theirs: nnx.Module) -> Iterator[str]:
  """What the models set differently: "layers/0/attention.rope_theta is …".

  Compared are the settings that modules keep as attributes, norms with their
  options among them, and which variables there are, of which shapes. What only
  a run is told by (dropout, dtypes, how layers are looped over) may differ.

  Args:
    ours: a model.
    theirs: another, "there" in what is said.
  """
  here, there = _modules(ours), _modules(theirs)
  for path in sorted({*here, *there}):
    if path not in there or path not in here:
      yield f"{path} is {'not ' * (path not in there)}there"
      continue
    mine, other = _settings(here[path]), _settings(there[path])
    for name in sorted({*mine, *other}):
      if mine.get(name) != other.get(name):
        yield (
          f"{path or 'the model'}.{name} is {mine.get(name)!r} here and"
          f" {other.get(name)!r} there"
        )

  yield from _of_variables(_shapes(ours), _shapes(theirs))


def _of_variables(
  here: dict[str, tuple[int, ...]], there: dict[str, tuple[int, ...]]
) -> Iterator[str]:
  for path in sorted({*here, *there}):
    if path not in here or path not in there:
      yield f"{path} is {'not ' * (path not in there)}there"
    elif here[path] != there[path]:
      yield f"{path} is {here[path]} here and {there[path]} there"


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
      plain = _plain(value)
      if plain is not _UNKNOWN:
        found[name] = plain
  return found


_UNKNOWN: Any = object()


def _plain(value: Any) -> Any:
  """Numbers and texts as they are, parts by name and options."""
  if isinstance(value, _PLAIN):
    return value
  if isinstance(value, nnx.Pytree | nnx.Variable):
    return _UNKNOWN  # A module within, which is compared for itself.
  if isinstance(value, tuple | list):
    parts = [_plain(part) for part in value]
    return _UNKNOWN if any(p is _UNKNOWN for p in parts) else tuple(parts)
  if hasattr(value, "name") and hasattr(value, "options"):  # A norm, a mixing.
    options = {k: v for k, v in value.options.items() if k not in _RUN_ONLY}
    return value.name, tuple(sorted((k, repr(v)) for k, v in options.items()))
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    return repr(value)
  return _UNKNOWN
