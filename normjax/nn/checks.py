"""Checks of the options that modules share."""

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from normjax import errors, norms
from normjax.registry import near_misses
from normjax.types import Array

COMPUTE_DTYPES = ("float32", "bfloat16")


def check_sizes(**sizes: Any) -> None:
  """Checks options that count something.

  Raises:
    UserError: one is no integer, or below 1; the message names it.
  """
  for name, value in sizes.items():
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
      raise errors.UserError(f"{name}={value!r} must be an integer.")
    if value < 1:
      raise errors.UserError(f"{name}={value} must be at least 1.")


def check_input_shape(input_shape: tuple[int, ...]) -> None:
  """Checks the shape of one example.

  Raises:
    UserError: it is empty, or an axis is no positive integer.
  """
  if not input_shape or not all(
    isinstance(size, numbers.Integral) and size > 0 for size in input_shape
  ):
    raise errors.UserError(
      f"input_shape={tuple(input_shape)} must hold positive integers."
    )


def check_image_shape(input_shape: tuple[int, ...]) -> None:
  """Checks the shape of one image.

  Raises:
    UserError: it is not (height, width, channels), all positive.
  """
  if len(input_shape) != 3:
    raise errors.UserError(
      f"input_shape={tuple(input_shape)} must be (height, width, channels)."
    )
  check_input_shape(input_shape)


def check_rates(**rates: float) -> None:
  """Raises UserError unless each rate is in [0, 1); the message names it."""
  for name, rate in rates.items():
    if not 0.0 <= rate < 1.0:
      raise errors.UserError(f"{name}={rate} must be in [0, 1).")


def check_integers(name: str, ids: Any, *, of: str = "") -> None:
  """Raises UserError unless the array has an integer dtype."""
  dtype = ids.dtype if hasattr(ids, "dtype") else np.asarray(ids).dtype
  if not jnp.issubdtype(dtype, jnp.integer):
    raise errors.UserError(f"{of}{name} must be integers; got {dtype}.")


def check_sequences(name: str, values: Any) -> None:
  """Raises UserError unless the array has the axes batch and length."""
  if np.ndim(values) != 2:
    raise errors.UserError(
      f"{name} of shape {np.shape(values)} must be (batch, length);"
      f" one sequence is {name}[None]."
    )


def check_ids(
  name: str, ids: Any, limit: int, option: str, *, of: str = ""
) -> None:
  """Checks that integers index a table, where they are known.

  Inside a compiled function they are not: an index beyond the end gives NaN
  there, and a negative one counts from the end.

  Args:
    name: of the integers.
    ids: any shape, of NumPy, jax or lists.
    limit: of the table's entries; ids are 0 to limit - 1.
    option: what says the limit, as in "vocab_size".
    of: begins the message: where the ids come from.

  Raises:
    UserError: no integers, or one out of range.
  """
  check_integers(name, ids, of=of)
  known = not isinstance(ids, jax.core.Tracer) and (
    not isinstance(ids, jax.Array) or ids.is_fully_addressable
  )
  if not known or not np.size(ids):
    return
  values = np.asarray(ids)
  least, most = int(values.min()), int(values.max())
  if least < 0 or most >= limit:
    raise errors.UserError(
      f"{of}{name} go from {least} to {most}; with {option}={limit} they must"
      f" be 0 to {limit - 1}."
    )


def check_examples(
  inputs: Array, input_shape: tuple[int, ...], *, flattened: bool = False
) -> None:
  """Checks the shape of what a model reads.

  Args:
    inputs: (b, ...).
    input_shape: of one example, as the model was made for.
    flattened: whether the number of values alone matters.

  Raises:
    UserError: another shape.
  """
  shape = jnp.shape(inputs)
  if flattened:
    fits = math.prod(shape[1:]) == math.prod(input_shape)
  else:
    fits = shape[1:] == input_shape
  if not shape or not fits:
    raise errors.UserError(
      f"inputs of shape {shape} are no batch of examples of the model's"
      f" input_shape={input_shape}."
    )


def check_positive(**values: float) -> None:
  """Raises UserError unless each is finite and above 0."""
  for name, value in values.items():
    if not 0 < value < math.inf:
      raise errors.UserError(f"{name}={value} must be positive and finite.")


def check_no_norm(norm: norms.NormSpec) -> None:
  """For networks that have no norms.

  Raises:
    UserError: another norm than identity.
  """
  name = norms.resolve(norm).name
  if name != "identity":
    raise errors.UserError(
      f"norm={name!r}: this model has no norms. Allowed: 'identity',"
      " in a config norm.name=identity."
    )


def check_choice(option: str, value: Any, allowed: Iterable[Any]) -> None:
  """Raises UserError, with near misses, unless `value` is one of `allowed`."""
  allowed = tuple(allowed)
  if value not in allowed:
    names = [name for name in allowed if isinstance(name, str)]
    raise errors.UserError(
      f"{option}={value!r} is unknown.{near_misses(value, names)}"
      f" Allowed: {', '.join(map(repr, allowed))}."
    )


def choose(option: str, name: str, table: Mapping[str, Any]) -> Any:
  """The entry of that name.

  Raises:
    UserError: there is none; the message names the option.
  """
  check_choice(option, name, table)
  return table[name]


def compute_dtype(name: str) -> jnp.dtype:
  """The dtype of that name.

  Raises:
    UserError: it is none of `COMPUTE_DTYPES`.
  """
  if name not in COMPUTE_DTYPES:
    raise errors.UserError(
      f"compute_dtype={name!r} is not supported."
      f" Allowed: {', '.join(COMPUTE_DTYPES)}."
    )
  return jnp.dtype(name)
