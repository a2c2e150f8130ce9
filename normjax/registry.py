"""Tables of strings: a name leads to `module:factory`, imported when asked.

A table is greppable, costs nothing to import, and can say what was meant.
"""

import ast
import dataclasses
import difflib
import functools
import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from normjax import errors


def near_misses(name: str, allowed: Iterable[str]) -> str:
  """Says `did you mean …?`, or nothing where nothing is near."""
  names = list(dict.fromkeys(allowed))  # Each is said once.
  close = [n for n in names if _initials(n) == name]  # As lr.
  close += difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
  return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def _initials(name: str) -> str:
  """The first letters of a name of several words, else ""."""
  words = str(name).split("_")
  return "".join(word[:1] for word in words) if len(words) > 1 else ""


# The part before the factory: "package.module:" of "package.module:factory".
_OUTSIDE = re.compile(r"([A-Za-z_][\w.]*:)[A-Za-z_]\w*(?=\(|$)")


def is_outside(text: str) -> bool:
  """Whether a text is "package.module:factory", with or without options."""
  return _OUTSIDE.match(text) is not None


def dotted_hint(name: str) -> str:
  """Says how one from outside is written, to whom wrote a dotted name."""
  if "." not in str(name) and ":" not in str(name):
    return ""
  return " One of your own is written package.module:factory."


def parse_call(kind: str, text: str) -> tuple[str, dict[str, Any]]:
  """Splits "name" or "name(option=value, …)" into name and options.

  Args:
    kind: what is named, in the singular, for messages.
    text: values are Python literals; the name may be "package.module:factory".

  Raises:
    UserError: the text is neither.
  """
  if "(" not in text:
    return text, {}
  module = _OUTSIDE.match(text)
  prefix = module.group(1) if module else ""
  try:
    call = ast.parse(text.removeprefix(prefix), mode="eval").body
    if not isinstance(call, ast.Call) or call.args:
      raise ValueError(text)
    name = prefix + ast.unparse(call.func)
    options = {
      str(keyword.arg): ast.literal_eval(keyword.value)
      for keyword in call.keywords
    }
  except (SyntaxError, ValueError) as error:
    raise errors.UserError(
      f"{kind} {text!r} is not a name, nor name(option=value, …) with literal"
      " values."
    ) from error
  return name, options


def _unknown(
  kind: str, name: Any, allowed: Iterable[str]
) -> errors.UnknownNameError:
  return errors.UnknownNameError(
    f"unknown {kind} {name!r}.{near_misses(name, allowed)}"
    f" Known: {', '.join(allowed)}."
  )


def _check_options(
  kind: str, name: str, options: Iterable[str], allowed: list[str]
) -> None:
  for key in options:
    if key not in allowed:
      raise errors.UserError(
        f"{kind} {name!r} has no option {key!r}.{near_misses(key, allowed)}"
        f" Options: {', '.join(allowed) or 'none'}."
      )


_PLAIN = (bool, int, float)


def _check_texts(
  kind: str, name: str, options: Mapping[str, Any], kinds: Mapping[str, str]
) -> None:
  """Raises UserError where one of `kinds` is given as a text."""
  for key, value in options.items():
    if isinstance(value, str) and kinds.get(key):
      raise errors.UserError(
        f"{kind} {name!r}: {key}={value!r}; allowed: {kinds[key]}."
      )


def _plain(annotation: Any) -> str:
  """What a flag or a number may be, in words; empty for other options."""
  parts = set(typing.get_args(annotation) or (annotation,))
  optional = " or None" if types.NoneType in parts else ""
  parts -= {types.NoneType}
  if not parts or not parts <= set(_PLAIN):
    return ""
  return ("True, False" if parts == {bool} else "a number") + optional


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
  # A metaclass, as Flax's, may hide the signature of a class.
  function = factory.__init__ if isinstance(factory, type) else factory
  return list(inspect.signature(function).parameters.values())


def _whereabouts(target: str, error: Exception) -> str:
  """What helps where the module of "module:attribute" is not found."""
  module = target.partition(":")[0]
  package = module.partition(".")[0]
  missing = getattr(error, "name", None)
  if not isinstance(error, ModuleNotFoundError) or not (
    missing and f"{module}.".startswith(f"{missing}.")
  ):
    return ""  # It is there; the error is its own.
  if Path(f"{package}.py").exists() or Path(package).is_dir():
    return (
      f" {package!r} is in this folder, where Python does not look:"
      " PYTHONPATH=. in front of the command adds it."
    )
  return " It must be installed, or in a folder of PYTHONPATH."


def load(target: str) -> Any:
  """Imports what "module:attribute" names."""
  module, _, attribute = target.partition(":")
  return getattr(importlib.import_module(module), attribute)


_LIST = re.compile(r"^__all__ = (\[[^]]*\])", re.MULTILINE)


def exports(package: str, folders: Iterable[str]) -> Mapping[str, str]:
  """Public name to "module:name", by the `__all__` of each file of a package.

  The files are read, not imported; so a list must be written out.

  Args:
    package: its full name.
    folders: its `__path__`.
  """
  found = {}
  for file in pkgutil.iter_modules(folders, f"{package}."):
    spec = file.module_finder.find_spec(file.name, None)
    source = spec.loader.get_source(file.name) if spec else None
    listed = _LIST.search(source or "")
    for name in ast.literal_eval(listed[1]) if listed else ():
      found[name] = f"{file.name}:{name}"
  return found


@functools.lru_cache
def _declared_traced(factory: Callable[..., Any]) -> Mapping[str, bool]:
  """Whether an option's numbers may be arrays, by its annotation if it has one.

  A `types.StaticFloat` is another kind than float.
  """
  found = {}
  for parameter in _parameters(factory):
    kind = parameter.annotation
    if kind is parameter.empty or isinstance(kind, str):
      continue
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    found[parameter.name] = float in (
      typing.get_args(kind) if union else (kind,)
    )
  return found


@dataclasses.dataclass(frozen=True)
class Registry:
  """A lazy table of factories.

  Attributes:
    kind: what the table holds, in the singular, for messages.
    table: name to "module:factory".
    from_outside: whether "package.module:factory" names a factory as well.
  """

  kind: str
  table: Mapping[str, str]
  from_outside: bool = False

  def names(self) -> tuple[str, ...]:
    """All names, in the table's order."""
    return tuple(self.table)

  def get(self, name: str) -> Callable[..., Any]:
    """Imports and returns the factory called `name`.

    Raises:
      UnknownNameError: no such name; the message lists near misses and all
        names.
      UserError: one from outside that cannot be imported.
    """
    if name not in self.table and self.from_outside and is_outside(name):
      return self._from_outside(name)
    if name not in self.table:
      unknown = _unknown(self.kind, name, sorted(self.table))
      if self.from_outside and (hint := dotted_hint(name)):
        raise errors.UnknownNameError(f"{unknown}{hint}")
      raise unknown
    return load(self.table[name])

  def _from_outside(self, name: str) -> Callable[..., Any]:
    """The factory "package.module:factory"; a UserError says what is wrong."""
    if "(" in name:
      raise errors.UserError(
        f"{self.kind} {name!r}: a name has no options here; those of a"
        f" component are keys of its block, beside"
        f" name={name.partition('(')[0]!r}."
      )
    try:
      factory = load(name)
    # Whatever a module of the user's raises; one that is a script may exit.
    except (Exception, SystemExit) as error:
      raise errors.UserError(
        f"{self.kind} {name!r} cannot be imported: {type(error).__name__}:"
        f" {error}.{_whereabouts(name, error)}"
      ) from error
    return factory

  def traced(self, name: str, options: Mapping[str, Any]) -> frozenset[str]:
    """The options that enter a compiled program as arrays.

    The factory's annotations declare them: numbers of options that are float,
    as in `float | Array`. A `types.StaticFloat` shapes the program, such as a
    share of the rank, and so does an int. Without an annotation, floats are
    traced.

    Args:
      name: of the factory.
      options: name to value, as a config has them.

    Raises:
      UnknownNameError: no such name.
    """
    declared = _declared_traced(self.get(name))
    return frozenset(
      key
      for key, value in options.items()
      if isinstance(value, int | float)
      and not isinstance(value, bool)
      and declared.get(key, isinstance(value, float))
    )

  def make(self, name: str, *args: Any, **options: Any) -> Any:
    """Calls the factory, after checking the options' names.

    Raises:
      UnknownNameError: no such name.
      UserError: an option that the factory does not have, or a text where
        it has a flag or a number.
    """
    factory = self.get(name)
    # A factory that hands options on says to what, and which it sets itself.
    chain = (factory, *getattr(factory, "hands_options_to", ()))
    own, *handed_on = map(_parameters, chain)
    fixed = getattr(factory, "fixes_options", ())
    parameters = own + [
      p for more in handed_on for p in more if p.name not in fixed
    ]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in _parameters(chain[-1]))
    if not open_ended:
      # Each once: a factory and what it hands options to share some.
      allowed = list(
        dict.fromkeys(
          p.name
          for p in parameters
          if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
          and p.name != "self"
        )
      )
      _check_options(self.kind, name, options, allowed)
    kinds = {p.name: _plain(p.annotation) for p in parameters}
    flags = {key: said for key, said in kinds.items() if "True" in said}
    # As a flag every text is true: "no" would be yes.
    _check_texts(self.kind, name, options, flags)
    try:
      return factory(*args, **options)
    except TypeError as error:
      # The factory's own message, where it has one, knows the range.
      if not any(key in str(error) for key in options):
        _check_texts(self.kind, name, options, kinds)
      raise

  def resolve(self, spec: str | Mapping[str, Any]) -> Any:
    """What a config names: "name", "name(option=value)" or a mapping.

    Args:
      spec: a mapping holds "name" and options; a ConfigDict is one.

    Raises:
      UserError: a mapping without "name", or what `make` raises.
      WrongTypeError: anything else.
    """
    if isinstance(spec, str):
      name, options = parse_call(self.kind, spec)
      return self.make(name, **options)
    # A ConfigDict has a mapping's methods without being a Mapping.
    if not hasattr(spec, "keys"):
      raise errors.WrongTypeError(
        f"a {self.kind} is given as a name or as a mapping with 'name';"
        f" got {spec!r}."
      )
    options = {key: spec[key] for key in spec}
    if "name" not in options:
      raise errors.UserError(
        f"the {self.kind} {options!r} lacks 'name';"
        f" known: {', '.join(self.names())}."
      )
    return self.make(options.pop("name"), **options)


class Named(Protocol):
  """What a `Table` holds."""

  @property
  def name(self) -> str:
    """Its name in the table."""
    ...


class Table[T: Named]:
  """Descriptions, small enough to be made at import, by their `name`."""

  def __init__(
    self,
    kind: str,
    entries: Iterable[T],
    factories: Mapping[str, Callable[..., T]] | None = None,
  ):
    """Makes the table.

    Args:
      kind: what it holds, in the singular, for messages.
      entries: each with a `name`.
      factories: of entries that have options, by name.
    """
    self.kind = kind
    self._entries = {entry.name: entry for entry in entries}
    self._factories = factories or {}

  def names(self) -> tuple[str, ...]:
    """All names, in the table's order."""
    return tuple(self._entries)

  def resolve(self, entry: str | T) -> T:
    """The entry of that name, or of `name(option=value)`; an entry is itself.

    Raises:
      UnknownNameError: no such name; near misses and all names are listed.
      UserError: options that the entry does not have.
    """
    if isinstance(entry, type(next(iter(self._entries.values())))):
      return entry
    options: dict[str, Any] = {}
    if isinstance(entry, str):
      entry, options = parse_call(self.kind, entry)
    # Another type may not be hashable.
    if entry not in self.names():
      raise _unknown(self.kind, entry, self.names())
    if not options:
      return self._entries[str(entry)]
    factory = self._factories.get(str(entry))
    allowed = [p.name for p in _parameters(factory)] if factory else []
    _check_options(self.kind, str(entry), options, allowed)
    assert factory is not None
    return factory(**options)
