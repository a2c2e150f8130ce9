"""A loss that is a plain function of a user's own."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from normjax import errors, signatures
from normjax.imports import raised_at
from normjax.metrics.base import Batch
from normjax.nn.output import Output
from normjax.objectives import base
from normjax.types import Array


def objective(
  name: str, function: Callable[..., Any], **options: Any
) -> base.Objective:
  """What is minimized is the mean of what a function gives per example.

      def absolute(outputs, batch, *, power: float = 1.0):
        error = jnp.abs(outputs.logits - batch["targets"]) ** power
        return {"loss": jnp.mean(error, -1), "worst": jnp.max(error, -1)}

  Its values are weighted by `batch["weight"]` and summed, so that means are
  exact however a batch is split.

  Args:
    name: as in a config.
    function: (outputs, batch) -> the loss per example, an array of the shape of
      `batch["weight"]`; or a dict of such, "loss" among them. "objective" in it
      is minimized in place of the loss. All others are columns of a row.
    **options: of the function, after these two.

  Raises:
    UserError: an option that the function does not have.
  """
  allowed = signatures.of(function).without_first(2)
  for option in options:
    if option not in allowed.parameters and not allowed.open_ended:
      raise errors.UserError(
        f"objective {name!r} has no option {option!r}. Options:"
        f" {', '.join(allowed.parameters) or 'none'}."
      )
  key = f"objective.name={name!r}"
  return base.Objective(
    name=name,
    targets="",
    means=None,
    weighted_sums=functools.partial(
      _sums, key, functools.partial(function, **options)
    ),
  )


def _sums(
  key: str, function: Callable[..., Any], output: Output, batch: Batch
) -> base.Sums:
  try:
    given = function(output, batch)
  except Exception as error:
    raise errors.UserError(
      f"{key} failed: {type(error).__name__}: {error}{raised_at(error)}"
    ) from error
  values = given if isinstance(given, Mapping) else {base.LOSS: given}
  if base.LOSS not in values:
    raise errors.UserError(
      f"{key} gives {', '.join(map(str, values))}; it must give {base.LOSS!r}."
    )
  sums = {n: _sum(key, n, v, batch["weight"]) for n, v in values.items()}
  return {base.MINIMIZED: sums[base.LOSS]} | sums


def _sum(key: str, name: str, values: Any, weight: Array) -> Array:
  if not hasattr(values, "dtype") or jnp.shape(values) != weight.shape:
    found = (
      f"the shape {jnp.shape(values)}"
      if hasattr(values, "dtype")
      else (f"the type {type(values).__name__}")
    )
    raise errors.UserError(
      f"{key}: {name!r} has {found}; needed: one value per example, an array"
      f" of shape {weight.shape}. normjax takes the mean."
    )
  minimized = name in (base.LOSS, base.MINIMIZED)
  if minimized and not jnp.issubdtype(values.dtype, jnp.floating):
    raise errors.UserError(
      f"{key}: {name!r} is {values.dtype}, which has no gradient; needed:"
      " floats."
    )
  # Padding counts for nothing, also where its value is not finite.
  return jnp.sum(jnp.where(weight > 0, weight * values, 0.0), dtype="float32")
