"""Tables of strings: a name leads to `module:factory`, imported when asked.

A table is greppable, costs nothing to import, and can say what was meant.
"""

import ast
import dataclasses
import difflib
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from normjax import errors, signatures
from normjax.imports import (
  MODULE,
  dotted_hint,
  is_outside,
  load,
  load_outside,
)


def near_misses(name: str, allowed: Iterable[str]) -> str:
  """Says `did you mean …?`, or nothing where nothing is near."""
  if not str(name):
    return ""  # Nothing is near to nothing, nor far from it.
  names = list(dict.fromkeys(allowed))  # Each is said once.
  close = [n for n in names if _initials(n) == name]  # As lr.
  close += difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
  return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def _initials(name: str) -> str:
  """The first letters of a name of several words, else ""."""
  words = str(name).split("_")
  return "".join(word[:1] for word in words) if len(words) > 1 else ""


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
  module = MODULE.match(text)
  prefix = module.group(1) if module else ""
  try:
    call = ast.parse(text.removeprefix(prefix), mode="eval").body
    if not isinstance(call, ast.Call) or call.args:
      raise ValueError(text)
    name = prefix + ast.unparse(call.func)
    names = [keyword.arg for keyword in call.keywords]
    if None in names or "name" in names or len({*names}) < len(names):
      raise ValueError(text)  # **more, name=…, or one of them twice.
    options = {
      str(keyword.arg): ast.literal_eval(keyword.value)
      for keyword in call.keywords
    }
  except (SyntaxError, ValueError) as error:
    raise errors.UserError(
      f"{kind} {text!r} is not a name, nor name(option=value, …) with literal"
      " values, each option once and none called 'name'."
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


def _check_required(
  kind: str,
  name: str,
  signature: signatures.Signature,
  num_positional: int,
  options: Iterable[str],
) -> None:
  """Raises UserError where an option without a default is not given."""
  if missing := signatures.missing(signature, num_positional, options):
    raise errors.UserError(
      f"{kind} {name!r} needs {', '.join(missing)}, which has no default:"
      f" give it, as in '{name}({missing[0]}=…)' or as a key beside the name."
    )


def _check_texts(
  kind: str, name: str, options: Mapping[str, Any], kinds: Mapping[str, str]
) -> None:
  """Raises UserError where one of `kinds` is given as a text."""
  for key, value in options.items():
    if isinstance(value, str) and kinds.get(key):
      raise errors.UserError(
        f"{kind} {name!r}: {key}={value!r}; allowed: {kinds[key]}."
      )


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


@dataclasses.dataclass(frozen=True)
class Registry:
  """A lazy table of factories.

  Attributes:
    kind: what the table holds, in the singular, for messages.
    table: name to "module:factory".
    from_outside: whether "package.module:factory" names a factory as well.
    makes: what the factories make; one from outside may make anything. None:
      who asks for it checks that.
  """

  kind: str
  table: Mapping[str, str]
  from_outside: bool = False
  makes: type | None = None

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
      return load_outside(self.kind, name)
    if name not in self.table:
      unknown = _unknown(self.kind, name, sorted(self.table))
      if self.from_outside and (hint := dotted_hint(name)):
        raise errors.UnknownNameError(f"{unknown}{hint}")
      raise unknown
    return load(self.table[name])

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
    return signatures.own(self.get(name)).traced(options)

  def make(self, name: str, *args: Any, **options: Any) -> Any:
    """Calls the factory, after checking the options' names.

    Raises:
      UnknownNameError: no such name.
      UserError: an option that the factory does not have, or a text where
        it has a flag or a number.
    """
    return self.call(name, self.get(name), *args, **options)

  def call(self, name: str, factory: Any, *args: Any, **options: Any) -> Any:
    """Calls a factory as `make` does that of the table.

    Args:
      name: for messages.
      factory: to be called.
      *args: of it.
      **options: of it.

    Raises:
      UserError: what `make` raises.
    """
    if not callable(factory):
      raise errors.UserError(
        f"{self.kind} {name!r} is a {type(factory).__name__}; needed: a"
        f" factory, a function that makes the {self.kind}."
      )
    signature = signatures.of(factory)
    parameters = signature.parameters
    if not signature.open_ended:
      _check_options(self.kind, name, options, list(parameters))
    if is_outside(name):
      _check_required(self.kind, name, signature, len(args), options)
    kinds = {
      k: signatures.plain_kind(p.annotation) for k, p in parameters.items()
    }
    flags = {key: said for key, said in kinds.items() if "True" in said}
    # As a flag every text is true: "no" would be yes.
    _check_texts(self.kind, name, options, flags)
    try:
      return self._checked(name, factory(*args, **options))
    except SystemExit as error:  # One from outside may be a script's.
      raise errors.UserError(
        f"{self.kind} {name!r} ended the program: SystemExit: {error}."
      ) from error
    except TypeError as error:
      # The factory's own message, where it has one, knows the range.
      if not any(key in str(error) for key in options):
        _check_texts(self.kind, name, options, kinds)
      raise

  def _checked(self, name: str, made: Any) -> Any:
    if self.makes is None or isinstance(made, self.makes):
      return made
    # A package exports what its `base` defines.
    package = self.makes.__module__.removesuffix(".base")
    raise errors.UserError(
      f"{self.kind} {name!r} gives a {type(made).__name__}; needed: a"
      f" {package}.{self.makes.__name__}."
    )

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
    self.factories = factories or {}

  def names(self) -> tuple[str, ...]:
    """All names, in the table's order."""
    return tuple(self._entries)

  def resolve(self, entry: str | T) -> T:
    """The entry of that name, or of `name(option=value)`; an entry is itself.

    The name may be "package.module:factory", or that of an entry there.

    Raises:
      UnknownNameError: no such name; near misses and all names are listed.
      UserError: options that the entry does not have, or one from outside that
        cannot be imported or is no entry.
    """
    kind = type(next(iter(self._entries.values())))
    if isinstance(entry, kind):
      return entry
    options: dict[str, Any] = {}
    if isinstance(entry, str):
      entry, options = parse_call(self.kind, entry)
      if is_outside(entry):
        return self._from_outside(kind, entry, options)
    # Another type may not be hashable.
    if entry not in self.names():
      raise _unknown(self.kind, entry, self.names())
    if not options:
      return self._entries[str(entry)]
    factory = self.factories.get(str(entry))
    allowed = list(signatures.of(factory).parameters) if factory else []
    _check_options(self.kind, str(entry), options, allowed)
    assert factory is not None
    return factory(**options)

  def _from_outside(
    self, kind: type[T], name: str, options: Mapping[str, Any]
  ) -> T:
    outside = Registry(self.kind, {}, from_outside=True, makes=kind)
    found = outside.get(name)
    if isinstance(found, kind) and not options:
      return found
    return outside.make(name, **options)
