"""What of a computed part is done: kept until all of it is.

`<out>/measure/pieces.json` has the pieces of an interrupted call by name, and
what they were computed by: with another file, or another state of this
package, they count no more.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from normjax import configure, errors
from normjax.record import files, provenance

FILE = "pieces.json"


class Pieces:
  """The second argument of a table's `measure(scale, piece)`, if it has one.

  Called as `piece(name, compute, *args)` it is `compute(*args)`, unless an
  earlier call was interrupted after it had that piece.
  """

  def __init__(
    self, path: Path, code: Path, scale: str, say: Callable[[str], None]
  ):
    """Reads what is kept.

    Args:
      path: of the pieces; it need not be there.
      code: the table's file.
      scale: that is measured.
      say: prints a line.
    """
    self._path, self._say = path, say
    package = [provenance.normjax.__version__, provenance.git()]
    self._of = configure.digest([code.read_text(), scale, package])
    self._kept: dict[str, Any] = {}
    self._asked: set[str] = set()
    try:
      found = files.read_json(path) or {}
    except errors.RunError as error:
      found = {}
      say(f"{error}: all of it is measured anew.")
    if isinstance(found, Mapping) and found.get("of") == self._of:
      self._kept = dict(found["pieces"])
      say(f"measured earlier: {errors.few(list(self._kept))}")
    elif found:
      say(f"{path} is of other code: all of it is measured anew.")

  def __call__(self, name: str, compute: Callable[..., Any], *args: Any) -> Any:
    """A piece's value: numbers, in lists and mappings with names as keys.

    Args:
      name: of the piece, one per table.
      compute: called with `args` unless the piece is kept.
      *args: of `compute`.

    Returns:
      As JSON has it: tuples are lists; what is not finite is NaN.

    Raises:
      UserError: a name that was used already, or a value that JSON has not.
    """
    if name in self._asked:
      raise errors.UserError(f"measure() has two pieces {name!r}.")
    self._asked.add(name)
    if name not in self._kept:
      start_s = time.monotonic()
      value = compute(*args)
      try:
        self._kept[name] = json.loads(json.dumps(files.finite(value)))
      except (TypeError, ValueError) as error:
        raise errors.UserError(
          f"piece {name!r} of measure(): {error}; allowed: numbers, lists, and"
          " mappings with names as keys."
        ) from error
      files.write_json(self._path, {"of": self._of, "pieces": self._kept})
      self._say(f"measured {name} in {time.monotonic() - start_s:.0f} s")
    return _numbers(self._kept[name])

  def close(self) -> None:
    """Forgets them: the values that they are part of are written."""
    self._path.unlink(missing_ok=True)


def _numbers(value: Any) -> Any:
  """A value as it was before null took the place of NaN."""
  if isinstance(value, dict):
    return {key: _numbers(item) for key, item in value.items()}
  if isinstance(value, list):
    return [_numbers(item) for item in value]
  return math.nan if value is None else value
