"""One run of a sweep, and how runs ended."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from normjax.sweep.space import Overrides

Result = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Point:
  """One run.

  Attributes:
    overrides: of the base config; the method's and the tuned values.
    tuned: of the overrides, those that tuning varies.
    for_seed: of a trial, the final seed that it chooses for; None: for all.
    program: the key of the program that it compiles to.
    config: resolved, as plain dicts.
  """

  run_id: str
  stage: str
  method: str
  overrides: Overrides
  seed: int
  program: str
  tuned: Overrides = dataclasses.field(default_factory=dict)
  config: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
  for_seed: int | None = None


class Results(Protocol):
  """How runs ended, by run id: a dict will do."""

  def get(self, run_id: str, /) -> Result | None:
    """The `result.json` of a run that is over, else None.

    `{"state": "failed"}` says that there is no result and will be none: such
    a trial is worse than one that diverged, and such a final run is missing.
    """
