"""What a probe came to: metrics of any sweep, from the rows of its probes.

    last(weight_norm/layers/0/conv/kernel)    its value in the last row
    growth(weight_norm/layers/0/conv/kernel)  that over its value in the first

Rows are as far apart as `log.every_steps`, the first is of step 0, and what
they hold of parameters is before the step's update: after s steps the last is
that of the greatest multiple of `log.every_steps` below s.
"""

import dataclasses
import math
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

  def values(self, rows: Iterable[Mapping[str, Any]]) -> list[float | None]:
    """Of a run with these rows: one number, or none.

    None is one that is not finite, as of a run that diverged. There is none
    where no row has the probe, nor from 0, over which there is no growth: of
    that nobody may conclude that the run diverged.
    """
    found = [
      row[self.probe]
      for row in rows
      if row["kind"] == "probe" and self.probe in row
    ]
    if not found:
      return []
    first, last = found[0], found[-1]
    if self.what == "last":
      return [last]
    if first is None or last is None:
      return [None]
    ratio = last / first if first else math.nan
    return [ratio] if math.isfinite(ratio) else []


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
