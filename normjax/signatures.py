"""What a factory says of its options: name, default, kind, what is traced."""

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

_PLAIN = (bool, int, float)
_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Signature(NamedTuple):
  """The options of a factory.

  Attributes:
    parameters: by name; of the factory, and of what it hands options on to.
    open_ended: whether it takes options of any name.
  """

  parameters: Mapping[str, inspect.Parameter]
  open_ended: bool

  def required(self) -> tuple[str, ...]:
    """The options that have no default."""
    return tuple(
      name for name, p in self.parameters.items() if p.default is p.empty
    )

  def defaults(self) -> dict[str, Any]:
    """Name to default, of those options whose default a config can hold."""
    return {
      name: _typed(p.default, p.annotation)
      for name, p in self.parameters.items()
      if p.default is not p.empty and _is_config_value(p.default)
    }

  def without_first(self, count: int) -> "Signature":
    """Without the parameters that whoever calls gives by position."""
    rest = list(self.parameters.items())[count:]
    return Signature(dict(rest), self.open_ended)

  def traced(self, options: Mapping[str, Any]) -> frozenset[str]:
    """The options whose values are arrays in a compiled program.

    Numbers of what is annotated as float, as in `float | Array`; a
    `types.StaticFloat` is another kind. Without an annotation, floats.
    """
    return frozenset(
      name
      for name, value in options.items()
      if isinstance(value, int | float)
      and not isinstance(value, bool)
      and self._may_be_traced(name, value)
    )

  def _may_be_traced(self, name: str, value: float) -> bool:
    parameter = self.parameters.get(name)
    kind = parameter.annotation if parameter else inspect.Parameter.empty
    if kind is inspect.Parameter.empty or isinstance(kind, str):
      return isinstance(value, float)
    return float in _kinds(kind)

  def typed(self, name: str, value: Any) -> Any:
    """A value of an option, a whole number as the float that it is to be."""
    parameter = self.parameters.get(name)
    return value if parameter is None else _typed(value, parameter.annotation)


def of(factory: Callable[..., Any]) -> Signature:
  """The options of a factory, "self" and the like left out."""
  # A factory that hands options on says to what, and which it sets itself.
  chain = (factory, *getattr(factory, "hands_options_to", ()))
  own, *handed_on = map(parameters, chain)
  fixed = getattr(factory, "fixes_options", ())
  found: dict[str, inspect.Parameter] = {}
  for parameter in [
    *own,
    *(p for more in handed_on for p in more if p.name not in fixed),
  ]:
    if parameter.kind not in _ANY_NUMBER and parameter.name != "self":
      found.setdefault(parameter.name, parameter)
  last = parameters(chain[-1])
  return Signature(found, any(p.kind is p.VAR_KEYWORD for p in last))


def is_of_batch(function: Any) -> bool:
  """Whether it is a function (outputs, batch, …) and no factory of one.

  The name of its second parameter says it.
  """
  if not callable(function):
    return False
  try:
    names = [p.name for p in parameters(function)]
  except (TypeError, ValueError):
    return False
  return not isinstance(function, type) and names[1:2] == ["batch"]


@functools.lru_cache
def own(factory: Callable[..., Any]) -> Signature:
  """The options of a factory alone, not of what it hands some on to."""
  found = {p.name: p for p in parameters(factory)}
  return Signature(found, open_ended=True)


def parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
  """The parameters of a function, or of a class's `__init__`."""
  # A metaclass, as Flax's, may hide the signature of a class.
  function = factory.__init__ if isinstance(factory, type) else factory
  names = getattr(inspect.unwrap(function), "__globals__", {})
  return [
    p.replace(annotation=_evaluated(p.annotation, names))
    for p in inspect.signature(function).parameters.values()
  ]


def _evaluated(annotation: Any, names: Mapping[str, Any]) -> Any:
  """An annotation that `from __future__ import annotations` made a text.

  One that names what is imported for type checkers alone stays a text.
  """
  if not isinstance(annotation, str):
    return annotation
  try:
    return eval(annotation, dict(names))
  except Exception:
    return annotation


def plain_kind(annotation: Any) -> str:
  """What a flag or a number may be, in words; empty for other options."""
  parts = set(typing.get_args(annotation) or (annotation,))
  optional = " or None" if types.NoneType in parts else ""
  parts -= {types.NoneType}
  if not parts or not parts <= set(_PLAIN):
    return ""
  return ("True, False" if parts == {bool} else "a number") + optional


def _kinds(annotation: Any) -> tuple[Any, ...]:
  """The types that an annotation allows."""
  union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
  return typing.get_args(annotation) if union else (annotation,)


def _typed(value: Any, annotation: Any) -> Any:
  kinds = _kinds(annotation)
  if type(value) is int and float in kinds and int not in kinds:
    return float(value)
  return value


def _is_config_value(value: Any) -> bool:
  """Whether a config can hold a default; others stay the factory's own."""
  if isinstance(value, list | tuple):
    return all(map(_is_config_value, value))
  if isinstance(value, float):
    return math.isfinite(value)
  return value is None or isinstance(value, bool | int | str)


def missing(
  signature: Signature, num_positional: int, options: Iterable[str]
) -> list[str]:
  """The options without a default that a call does not give."""
  given = {*list(signature.parameters)[:num_positional], *options}
  return [name for name in signature.required() if name not in given]
