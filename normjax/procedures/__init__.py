"""What a run does beyond plain training, as a config says it.

A procedure is a file here and a line of `TABLE`; the leaf of the config that
asks for it is the key. It may show the data in another order, take gradients of
another loss, and measure more once a model is trained; all else of such a run
is that of any other.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from normjax import configure, errors
from normjax.metrics import Metric
from normjax.procedures.base import Procedure

TABLE: Mapping[str, str] = {
  "continual.learner": "normjax.procedures.continual:Continual",
  "context.method": "normjax.procedures.context:Context",
  "evaluate.adapt.methods": "normjax.procedures.adaptation:Adaptation",
}


def of(config: configure.ConfigDict | Mapping[str, Any]) -> list[Procedure]:
  """The procedures that a config asks for, in the order of the table."""
  resolved = configure.to_dict(config)
  found = []
  for leaf, where in TABLE.items():
    if configure.optional(resolved, leaf):
      module, _, name = where.partition(":")
      made = getattr(importlib.import_module(module), name)
      found.append(made(leaf.rpartition(".")[0], resolved))
  return found


# Data sets, and how a run's procedures show them: a few of the last.
_VIEWS: dict[tuple[int, str], tuple[Any, Any]] = {}
_NUM_VIEWS = 4


def view(config: Mapping[str, Any], dataset: Any) -> Any:
  """A data set as the procedures of a run show it.

  Args:
    config: resolved.
    dataset: as the block `data` has it, for the run's seed.
  """
  asked = [each for each in of(config) if each.learns]
  if not asked:
    return dataset
  read = [config.get(each.block) for each in asked]
  said = configure.digest([read, config["seed"], config["train"]])
  key = id(dataset), said
  if key not in _VIEWS:
    while len(_VIEWS) >= _NUM_VIEWS:
      del _VIEWS[next(iter(_VIEWS))]
    shown = dataset
    for procedure in asked:
      shown = procedure.view(shown)
    # What it was made of is kept beside it: that id is of no other.
    _VIEWS[key] = dataset, shown
  return _VIEWS[key][1]


def metrics(config: configure.ConfigDict, dataset: Any) -> list[Metric]:
  """What each evaluation measures beside the config's metrics."""
  return [m for each in of(config) for m in each.metrics(dataset)]


def learns(config: configure.ConfigDict | Mapping[str, Any]) -> bool:
  """Whether one of them takes other gradients than plain training."""
  return any(each.learns for each in of(config))


def check_unread(config: configure.ConfigDict) -> None:
  """Raises UserError for leaves of a block whose procedure is not asked for."""
  flat = dict(configure.leaves(configure.to_dict(config)))
  for leaf in TABLE:
    block = leaf.rpartition(".")[0]
    for path, value in flat.items():
      if path.startswith(f"{block}.") and leaf not in flat:
        raise errors.UserError(
          f"{path}={value!r}: nothing reads it without {leaf}."
        )
