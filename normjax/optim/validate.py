"""Checks of what users pass: concrete numbers and the leaves of trees.

A traced scalar has no value yet and is not checked.
"""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from normjax import errors
from normjax.optim import groups
from normjax.types import PyTree


def number(
  method: str,
  name: str,
  value: Any,
  *,
  least: float = 0.0,
  below: float = math.inf,
  schedule: bool = False,
) -> None:
  """Checks one scalar option.

  Args:
    method: the optimizer, for the message.
    name: the option.
    value: a number, a scalar array or, with `schedule`, a function.
    least: the smallest value that is allowed.
    below: values from here on are not allowed.
    schedule: whether a function of the step is allowed.

  Raises:
    TypeError: not a scalar.
    UserError: a concrete scalar out of range or not finite.
  """
  if schedule and callable(value):
    return
  kinds = "a number, a scalar array" + (" or a schedule" if schedule else "")
  is_number = isinstance(value, int | float | np.number)
  is_scalar = isinstance(value, jax.Array | np.ndarray) and value.shape == ()
  if isinstance(value, bool) or not (is_number or is_scalar):
    raise TypeError(f"{method}: {name}={value!r}; allowed: {kinds}.")
  if isinstance(value, Tracer):
    return
  concrete = float(value)
  if not (math.isfinite(concrete) and least <= concrete < below):
    bound = f"[{least:g}, {below:g})" if below < math.inf else f">= {least:g}"
    raise errors.UserError(
      f"{method}: {name}={concrete:g}; allowed: finite and {bound}."
    )


def numbers(method: str, **values: Any) -> None:
  """Checks options that must be finite and >= 0."""
  for name, value in values.items():
    number(method, name, value)


def betas(method: str, **values: Any) -> None:
  """Checks decay rates of moving averages: in [0, 1)."""
  for name, value in values.items():
    number(method, name, value, below=1.0)


def learning_rate(method: str, value: Any, name: str = "learning_rate") -> None:
  """Checks a learning rate: >= 0, or a schedule."""
  number(method, name, value, schedule=True)


def count(method: str, name: str, value: Any, least: int = 1) -> None:
  """Checks a static integer, such as a number of iterations."""
  if isinstance(value, bool) or not isinstance(value, int):
    raise TypeError(f"{method}: {name}={value!r}; allowed: an int >= {least}.")
  if value < least:
    raise errors.UserError(
      f"{method}: {name}={value}; allowed: an int >= {least}."
    )


def choice(
  method: str, name: str, value: Any, allowed: tuple[str, ...]
) -> None:
  """Checks a name against those that are allowed."""
  if value not in allowed:
    raise errors.UserError(
      f"{method}: {name}={value!r}; allowed: {', '.join(map(repr, allowed))}."
    )


def pattern(method: str, name: str, value: Any) -> None:
  """Checks a regular expression; None stands for none."""
  if value is None:
    return
  try:
    re.compile(value)
  except re.error as error:
    raise errors.UserError(
      f"{method}: {name}={value!r}; allowed: a regular expression ({error})."
    ) from None


def leaves(method: str, params: PyTree) -> None:
  """Checks that every leaf is a real floating-point array.

  Raises:
    TypeError: an integer, complex or other leaf; the message names it.
  """
  for path, leaf in groups.leaves(params):
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
      what = type(leaf).__name__ if dtype is None else dtype
      raise TypeError(
        f"{method}: the leaf {groups.show(path)} is {what}; allowed:"
        " floating-point arrays. Mask others with optax.masked."
      )
