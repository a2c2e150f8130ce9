"""What a probe came to: metrics of any sweep, from the rows of its probes.

    last(weight_norm/layers/0/conv/kernel)    its value in the last row
    growth(weight_norm/layers/0/conv/kernel)  that over its value in the first

Rows are as far apart as `log.every_steps`, the first is of step 0, and what
they hold of parameters is before the step's update: after s steps the last is
that of the greatest multiple of `log.every_steps` below s.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from normjax import errors

_BEGIN = re.compile(r"\s*(last|growth)\s*\(")
_FORM = re.compile(r"(last|growth)\(([^()\s]+)\)")


@dataclasses.dataclass(frozen=True)
class Probed:
  """A metric that is made of a probe's values.

  Attributes:
    name: as it was written.
    what: "last" or "growth".
    probe: as in a row, "weight_norm/layers/0/conv/kernel".
  """

  name: str
  what: str
  probe: str

  def value(self, rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Of a run with these rows; None where there is no such number."""
    values = [
      row.get(self.probe)
      for row in rows
      if row["kind"] == "probe" and self.probe in row
    ]
    if not values or values[-1] is None:
      return None
    if self.what == "last":
      return values[-1]
    return values[-1] / values[0] if values[0] else None


def parse(name: str) -> Probed | None:
  """The probe's metric that a name is, or None where it is another one.

  Raises:
    UserError: it begins as one does, and is none.
  """
  found = _FORM.fullmatch(name)
  if found is not None:
    return Probed(name, *found.groups())
  if _BEGIN.match(name) is None:
    return None
  raise errors.UserError(
    f"metric {name!r} is not last(PROBE), nor growth(PROBE): a probe's whole"
    " name, as in last(weight_norm/head/kernel)."
  )
