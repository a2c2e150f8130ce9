"""The table of learners."""

from collections.abc import Mapping
from typing import Any

from normjax.continual.base import Learner
from normjax.registry import Registry

TABLE: Mapping[str, str] = {
  "finetune": "normjax.continual.finetune:finetune",
  "er": "normjax.continual.er:er",
  "er_ace": "normjax.continual.er_ace:er_ace",
  "derpp": "normjax.continual.derpp:derpp",
}
_REGISTRY = Registry("learner", TABLE, from_outside=True, makes=Learner)


def names() -> tuple[str, ...]:
  """The names of all learners."""
  return _REGISTRY.names()


def make(name: str, **options: Any) -> Learner:
  """The learner of that name.

  Raises:
    UnknownNameError: no such learner.
    UserError: an option that it does not have, or a bad value.
  """
  return _REGISTRY.make(name, **options)


def resolve(spec: str | Mapping[str, Any] | Learner) -> Learner:
  """A learner from "name", "name(option=value)", a mapping, or itself.

  Raises:
    UserError: what `make` raises, or a mapping without "name".
  """
  return spec if isinstance(spec, Learner) else _REGISTRY.resolve(spec)
