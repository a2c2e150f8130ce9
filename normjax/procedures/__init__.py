"""What a run does beyond plain training, as a config says it.

A procedure is a file here and a line of `TABLE`; the leaf of the config that
asks for it is the key. It may show the data in another order, take gradients of
another loss, and measure more once a model is trained; all else of such a run
is that of any other.
"""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from normjax import configure, errors
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


def view(asked: Iterable[Procedure], dataset: Any) -> Any:
  """A data set as the procedures of a run show it.

  Args:
    asked: of `of`.
    dataset: as the block `data` has it, for the run's seed.
  """
  for procedure in asked:
    dataset = procedure.view(dataset)
  return dataset


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
