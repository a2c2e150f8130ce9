"""How a model is called: what its `__call__` takes of what there is to give.

`models` says what a model may be. One call fits all: a plain `(self, x)`,
`(self, inputs, *, train, key)` as ours, Flax's own layers, a Linen module in
`nnx.bridge.ToNNX`.
"""

import inspect
from typing import Any

from flax import nnx
from flax.nnx import bridge

from normjax.norms import modes
from normjax.types import Array

# The words that callers use for what is on in training, and off in it.
TRAINING = ("train", "training", "is_training")
NOT_TRAINING = ("deterministic", "use_running_average")
GIVEN = (*TRAINING, *NOT_TRAINING, "key", "rngs")
_PARAMETER = inspect.Parameter
_POSITIONAL = (
  _PARAMETER.POSITIONAL_ONLY, _PARAMETER.POSITIONAL_OR_KEYWORD,
  _PARAMETER.VAR_POSITIONAL,
)  # fmt: skip


def call(
  model: nnx.Module,
  inputs: Any,
  *,
  train: bool | modes.Mode,
  key: Array | None = None,
) -> Any:
  """What the model returns.

  Before, `model.train()` or `model.eval()` switches Flax's dropout and batch
  normalization in it, whatever its own `__call__` takes.

  Args:
    model: any; its statistics may change.
    inputs: the batch's.
    train: whether noise is on, and running statistics move; or a `Mode`. Of one
      Flax's layers know whether there is noise, and whether statistics are the
      batch's and move or are the running ones; a call that asks for a `train`
      gets the mode, which is true.
    key: of the noise, where the call asks for it as `key` or as `rngs`.
  """
  # A model may have an attribute of this name.
  (nnx.Module.train if train else nnx.Module.eval)(model)
  if isinstance(train, modes.Mode):
    for _, module in nnx.iter_modules(model):
      for name, value in _switches(train).items():
        if hasattr(module, name):
          setattr(module, name, value)
  return model(inputs, **_options(model, train=train, key=key))


def needs(model: nnx.Module) -> tuple[str, ...]:
  """What its call needs, beside the inputs, that nothing here gives."""
  is_bridge = isinstance(model, bridge.ToNNX)
  inputs, options = _takes(model.to_nnx__module if is_bridge else model)
  missing = [
    p.name
    for p in options
    if p.default is p.empty
    and p.name not in GIVEN
    and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
  ]
  return tuple(missing if inputs else ["an argument for the inputs", *missing])


def is_empty_bridge(model: nnx.Module) -> bool:
  """Whether it is a Linen module that has no variables yet."""
  state = nnx.state(model, nnx.Not(nnx.RngState))
  return isinstance(model, bridge.ToNNX) and not nnx.to_flat_state(state)


def fill_bridge(model: bridge.ToNNX, inputs: Any, rngs: nnx.Rngs) -> None:
  """Makes the variables of a Linen module from inputs like the data's."""
  if hasattr(type(model), "initialize"):
    model.initialize(inputs, rngs)
  else:
    words = linen_words(model, train=False)
    bridge.lazy_init(model, inputs, rngs=rngs, **words)


def linen_options(
  model: bridge.ToNNX, *, train: bool | modes.Mode, key: Array | None
) -> dict[str, Any]:
  """What a Linen module in a bridge is called with, beside its inputs."""
  kinds = {type(v) for _, v in nnx.to_flat_state(nnx.state(model))}
  kept = [k for k in kinds if not issubclass(k, nnx.Param | nnx.RngState)]
  names = {nnx.variable_name_from_type(kind) for kind in kept}
  mutable = sorted(names - {"_overwrite_with_gradient"})
  words = linen_words(model, train=train)
  return {"mutable": mutable or False, "rngs": key, **words}


def linen_words(
  model: bridge.ToNNX, *, train: bool | modes.Mode
) -> dict[str, Any]:
  """How a Linen module is told whether it trains."""
  taken = {p.name for p in _takes(model.to_nnx__module)[1]}
  return {k: v for k, v in _words(train=train).items() if k in taken}


def _options(
  model: nnx.Module, *, train: bool | modes.Mode, key: Array | None
) -> dict[str, Any]:
  if type(model) is bridge.ToNNX:
    return linen_options(model, train=train, key=key)
  if type(model).__call__.__module__.startswith("flax."):
    return {}  # `train()` and `eval()` say it; a Sequential hands on the rest.
  given = _words(train=train) | {"key": key}
  options = _takes(model)[1]
  named = {p.name for p in options}
  if any(p.kind is p.VAR_KEYWORD for p in options):
    named |= {"train", "key"}
  if "rngs" in named:
    given["rngs"] = None if key is None else nnx.Rngs(key)
  return {name: value for name, value in given.items() if name in named}


def _words(*, train: bool | modes.Mode) -> dict[str, Any]:
  said = dict.fromkeys(TRAINING, train)
  if isinstance(train, modes.Mode):
    return said | _switches(train)
  return said | dict.fromkeys(NOT_TRAINING, not train)


def _switches(mode: modes.Mode) -> dict[str, bool]:
  """A mode in the two words of Flax's layers."""
  running = mode.statistics == "running"
  return {"deterministic": not mode.noise, "use_running_average": running}


def _takes(
  called: Any,
) -> tuple[inspect.Parameter | None, list[inspect.Parameter]]:
  """(the parameter of the inputs, the others) of an object's call."""
  signature = inspect.signature(type(called).__call__)
  parameters = list(signature.parameters.values())
  if parameters and parameters[0].kind is not _PARAMETER.VAR_POSITIONAL:
    parameters = parameters[1:]
  if parameters and parameters[0].kind in _POSITIONAL:
    return parameters[0], parameters[1:]
  return None, parameters
