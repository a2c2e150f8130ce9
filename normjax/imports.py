"""How a user's own part is imported: what "package.module:factory" names."""

import importlib
import logging
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from normjax import beside, errors, faults

_LOG = logging.getLogger(__name__)
# The part before the factory: "package.module:" of "package.module:factory".
MODULE = re.compile(r"([A-Za-z_][\w.]*:)[A-Za-z_]\w*(?=\(|$)")
_HERE = Path(__file__).parent
_said: set[str] = set()


def is_outside(text: str) -> bool:
  """Whether a text is "package.module:factory", with or without options."""
  return MODULE.match(text) is not None


def dotted_hint(name: str) -> str:
  """Says how one from outside is written, to whom wrote a dotted name."""
  if "." not in str(name) and ":" not in str(name):
    return ""
  return " One of your own is written package.module:factory."


def load(target: str) -> Any:
  """Imports what "module:attribute" names."""
  module, _, attribute = target.partition(":")
  return getattr(importlib.import_module(module), attribute)


def load_outside(kind: str, name: str) -> Any:
  """What "package.module:factory" names.

  Args:
    kind: what it is for, in the singular, for messages.
    name: without options.

  Raises:
    UserError: it cannot be imported; the message says what helps.
  """
  if "(" in name:
    raise errors.UserError(
      f"{kind} {name!r}: a name has no options here; those of a component are"
      f" keys of its block, beside name={name.partition('(')[0]!r}."
    )
  module = name.partition(":")[0]
  try:
    found = load(name)
  # Whatever a module of the user's raises; one that is a script may exit.
  except (Exception, SystemExit) as error:
    helps = _hidden(module) or _whereabouts(module, error)
    raise errors.UserError(
      f"{kind} {name!r} cannot be imported: {faults.one_line(error)}"
      f"{raised_at(error)}.{helps}"
    ) from error
  if (said := _hidden(module)) and module not in _said:
    _said.add(module)
    _LOG.warning("note: %s %r:%s", kind, name, said)
  return found


def raised_at(error: BaseException) -> str:
  """Where in a user's own code a fault began; "" where it did not.

  The innermost line outside of installed packages, or else in one. A
  SyntaxError's own message says it.
  """
  frames = [
    f
    for f in traceback.extract_tb(error.__traceback__)
    if not f.filename.startswith((str(_HERE), "<"))
    and "importlib" not in f.filename
  ]
  if not frames or isinstance(error, SyntaxError):
    return ""
  own = [f for f in frames if "site-packages" not in f.filename] or frames
  return f" ({own[-1].filename}, line {own[-1].lineno})"


def _hidden(module: str) -> str:
  """Says that another module of this name came first, if one did."""
  other = beside.hidden(module)
  if not other:
    return ""
  package = module.partition(".")[0]
  whose = "Python's own" if package in sys.stdlib_module_names else "another"
  return (
    f" {package!r} in {beside.folder()} is not the module that Python"
    f" imports: {whose} of that name comes first ({other}). Rename yours."
  )


def _whereabouts(module: str, error: BaseException) -> str:
  """What helps where a module is not found."""
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
  return (
    " It must be installed, or beside the config file that the command is"
    " given, or in a folder of PYTHONPATH."
  )
