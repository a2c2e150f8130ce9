"""What stands in for data that is not there, where shapes are enough."""

import contextlib
import contextvars
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from normjax import errors

_SAID = "Without it its shapes serve: nothing is timed, nothing trains."
# Block of the data -> its spec and the message of what is missing; None: data
# that is missing is an error.
_found: contextvars.ContextVar[dict[str, tuple[Any, str]] | None] = (
  contextvars.ContextVar("found", default=None)
)


@contextlib.contextmanager
def shapes_suffice() -> Iterator[Callable[[], list[str]]]:
  """Within it, data that is not there is known by its shapes: `data.spec`.

  For what builds and compiles, and never trains.

  Yields:
    What says which data is missing, a line per data set, of those that were
    asked for so far.
  """
  found: dict[str, tuple[Any, str]] = {}
  token = _found.set(found)
  try:
    yield lambda: list(dict.fromkeys(message for _, message in found.values()))
  finally:
    _found.reset(token)


def or_spec(block: Mapping[str, Any], make: Callable[[str], Any]) -> Any:
  """The data set of a config; or its spec, where that is enough.

  Args:
    block: `data` of a resolved config.
    make: from the block as JSON to the data set.

  Raises:
    UserError: what `make` raises.
  """
  text, found = json.dumps(block), _found.get()
  if found is None:
    return make(text)
  if text not in found:
    try:
      return make(text)
    except errors.MissingDataError as error:
      from normjax import data

      options = {key: value for key, value in block.items() if key != "name"}
      message = " ".join(str(error).split())
      found[text] = data.spec(block["name"], **options), f"{message} {_SAID}"
  return found[text][0]
