"""Facts about an optimizer: what its state weighs, which update moves what."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import jax

from normjax import optim
from normjax.optim import compose, groups
from normjax.types import PyTree

__all__ = ["describe", "keeps_norms", "premise", "state_bytes"]


def state_bytes(state: PyTree) -> int:
  """Bytes of all arrays of a state, or of their shapes and dtypes."""
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def describe(name: str, params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each parameter to the name of the update that moves it.

  Args:
    name: an optimizer of the table.
    params: arrays, or their shapes and dtypes.
    **options: as for `optim.make`.

  Raises:
    UnknownNameError: no such optimizer.
  """
  factory = optim.REGISTRY.get(name)
  module = importlib.import_module(factory.__module__)
  if hasattr(module, "routes"):
    return module.routes(params, **options)
  if "dims" in inspect.signature(factory).parameters:
    return compose.routes(name, options.get("dims"), params)
  return {path: name for path, _ in groups.leaves(params)}


def premise(name: str) -> str | None:
  """What an optimizer asks of a model whose matrices it keeps at one norm.

  Its file says it, as `PREMISE`; None of one that does not project matrices.
  The matrices are those of its option `dims`, and `scale_invariance` measures
  whether the model has what is asked for.

  Args:
    name: an optimizer of the table, or "package.module:factory".

  Raises:
    UnknownNameError: no such optimizer.
  """
  module = inspect.getmodule(optim.REGISTRY.get(name))
  return getattr(module, "PREMISE", None)


def keeps_norms(name: str) -> bool:
  """Whether an optimizer's updates put matrices back to a norm.

  Its file says it, as `KEEPS_NORMS`.

  Args:
    name: an optimizer of the table, or "package.module:factory".

  Raises:
    UnknownNameError: no such optimizer.
  """
  module = inspect.getmodule(optim.REGISTRY.get(name))
  return getattr(module, "KEEPS_NORMS", False)
