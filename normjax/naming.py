"""Which key of a config a fault is about."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kernels_pallas import dispatch
from normjax import configure, errors, faults


@contextlib.contextmanager
def block(resolved: Mapping[str, Any], *blocks: str) -> Iterator[None]:
  """Says which key of the config a factory's complaint is about.

  Factories name their own option; here it gets the block's name in front.
  Whatever a factory raises at an option of a config is bad input.

  Args:
    resolved: the config as plain dicts.
    *blocks: whose options the factory got, the likeliest first.

  Raises:
    UserError: in place of what was raised.
  """
  try:
    yield
  except dispatch.UnsupportedError:
    raise  # Depends on the machine, not on the config alone.
  except Exception as error:
    message = str(error)
    if not isinstance(error, errors.UserError | TypeError):
      message = faults.one_line(error)
    kind = type(error) if isinstance(error, errors.UserError) else None
    key = _blamed(message, resolved, blocks)
    if message.startswith(key):
      raise (kind or errors.UserError)(message) from error
    message = message.removeprefix(f"{key.partition('.')[2]}: ")
    raise (kind or errors.UserError)(f"{key}: {message}") from error


def _blamed(
  message: str, resolved: Mapping[str, Any], blocks: tuple[str, ...]
) -> str:
  """The dotted `key=value` that a message names first; else the block."""
  options = [
    (f"{block}.{key}", key, value)
    for block in blocks
    for key, value in configure.leaves(resolved[block])
    if key != "name"
  ]
  for pattern in (r"(?<![\w.]){}={}(?!\w)", r"(?<![\w.]){}=", r"\b{}\b"):
    named = {}
    for path, key, value in options:
      text = pattern.format(re.escape(key), re.escape(repr(value)))
      if found := re.search(text, message):
        # What stands for None, the message says.
        said = path if value is None else f"{path}={value!r}"
        named.setdefault(found.start(), said)
    if named:
      return named[min(named)]
  return f"{blocks[0]}.name={resolved[blocks[0]]['name']!r}"
