"""The table of methods of context."""

from collections.abc import Mapping
from typing import Any

from normjax.context.base import Method
from normjax.registry import Registry

TABLE: Mapping[str, str] = {
  "erm": "normjax.context.erm:erm",
  "tbn": "normjax.context.tbn:tbn",
  "arm_bn": "normjax.context.arm_bn:arm_bn",
  "cs_arm_bn": "normjax.context.cs_arm_bn:cs_arm_bn",
  "ben": "normjax.context.ben:ben",
}
_REGISTRY = Registry("context method", TABLE, from_outside=True, makes=Method)


def names() -> tuple[str, ...]:
  """The names of all methods."""
  return _REGISTRY.names()


def make(name: str, **options: Any) -> Method:
  """The method of that name.

  Raises:
    UnknownNameError: no such method.
    UserError: an option that it does not have, or a bad value.
  """
  return _REGISTRY.make(name, **options)


def resolve(spec: str | Mapping[str, Any] | Method) -> Method:
  """A method from "name", "name(option=value)", a mapping, or itself.

  Raises:
    UserError: what `make` raises, or a mapping without "name".
  """
  return spec if isinstance(spec, Method) else _REGISTRY.resolve(spec)
