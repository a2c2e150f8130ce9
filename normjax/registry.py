"""Tables of strings: a name leads to `module:factory`, imported when asked.

A table is greppable, costs nothing to import, and can say what was meant.
"""

import dataclasses
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from normjax import errors


def near_misses(name: str, allowed: Iterable[str]) -> str:
  """Says `did you mean …?`, or nothing where nothing is near."""
  close = difflib.get_close_matches(str(name), list(allowed), n=3, cutoff=0.5)
  return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


@dataclasses.dataclass(frozen=True)
class Registry:
  """A lazy table of factories.

  Attributes:
    kind: what the table holds, in the singular, for messages.
    table: name to "module:factory".
  """

  kind: str
  table: Mapping[str, str]

  def names(self) -> tuple[str, ...]:
    """All names, in the table's order."""
    return tuple(self.table)

  def get(self, name: str) -> Callable[..., Any]:
    """Imports and returns the factory called `name`.

    Raises:
      UnknownNameError: no such name; the message lists near misses and all
        names.
    """
    if name not in self.table:
      raise errors.UnknownNameError(
        f"unknown {self.kind} {name!r}.{near_misses(name, self.table)}"
        f" Known: {', '.join(sorted(self.table))}."
      )
    module, _, attribute = self.table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)

  def make(self, name: str, *args: Any, **options: Any) -> Any:
    """Calls the factory, after checking the options' names.

    Raises:
      UnknownNameError: no such name.
      UserError: an option that the factory does not have.
    """
    factory = self.get(name)
    # A metaclass, as Flax's, may hide the signature of a class.
    function = factory.__init__ if isinstance(factory, type) else factory
    parameters = inspect.signature(function).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
      allowed = [
        p.name
        for p in parameters
        if p.kind is not p.VAR_POSITIONAL and p.name != "self"
      ]
      for key in options:
        if key not in allowed:
          raise errors.UserError(
            f"{self.kind} {name!r} has no option {key!r}."
            f"{near_misses(key, allowed)} Options: {', '.join(allowed)}."
          )
    return factory(*args, **options)
