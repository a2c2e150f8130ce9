"""Objectives: the losses that are minimized, and what they measure.

The kind of a data set's targets chooses one; `objective.name` of a config
chooses another. A new one is a file here, a line of `TABLE` and a config.
"""

from typing import Any

from normjax import errors
from normjax.imports import is_outside
from normjax.objectives import function
from normjax.objectives.base import LOSS, MINIMIZED, WEIGHT, Objective, Sums
from normjax.registry import Registry
from normjax.signatures import is_of_batch

TABLE = {
  "cross_entropy": "normjax.objectives.cross_entropy:cross_entropy",
  "proxy_nca": "normjax.objectives.proxy_nca:proxy_nca",
  "squared_error": "normjax.objectives.squared_error:squared_error",
}
# The kind of targets to what is minimized unless the config says otherwise.
DEFAULTS = {"classes": "cross_entropy", "values": "squared_error"}

REGISTRY = Registry("objective", TABLE, from_outside=True)
get = REGISTRY.get
names = REGISTRY.names


def make(name: str, **options: Any) -> Objective:
  """An objective by name, or from outside.

  Args:
    name: of the table, or "package.module:factory"; or a function whose second
      parameter is called `batch`, see `objectives.function`.
    **options: of the factory, or of the function after its first two.

  Raises:
    UnknownNameError: no such name.
    UserError: an option that there is not.
  """
  if is_outside(name) and is_of_batch(found := get(name)):
    return function.objective(name, found, **options)
  return REGISTRY.make(name, **options)


__all__ = [
  "DEFAULTS", "LOSS", "MINIMIZED", "REGISTRY", "TABLE", "WEIGHT", "Objective",
  "Sums", "default_name", "get", "make", "names",
]  # fmt: skip


def default_name(dataset: Any) -> str:
  """The objective that the targets of a data set ask for.

  Raises:
    UserError: there is none for this kind.
  """
  if dataset.targets not in DEFAULTS:
    raise errors.UserError(
      f"data {dataset.name!r} has targets that are {dataset.targets!r};"
      f" without objective.name, allowed: {', '.join(DEFAULTS)}."
    )
  return DEFAULTS[dataset.targets]
