"""Checks of what models and layers are made for, and of what they read."""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from normjax import errors, norms, validate
from normjax.types import Array

COMPUTE_DTYPES = ("float32", "bfloat16", "float64")


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


def logits_dtype(dtype: DTypeLike) -> jnp.dtype:
  """Of sums that bfloat16 would round: float32, or float64 for float64."""
  return jnp.promote_types(dtype, jnp.float32)


def compute_dtype(name: str) -> jnp.dtype:
  """The dtype of that name.

  Raises:
    UserError: it is none of `COMPUTE_DTYPES`, or float64 where JAX has none.
  """
  validate.choice("", "compute_dtype", name, COMPUTE_DTYPES)
  if name == "float64" and not jax.config.jax_enable_x64:
    raise errors.UserError(
      "compute_dtype='float64': JAX rounds to float32 unless it is told"
      " otherwise: jax.config.update('jax_enable_x64', True), or"
      " JAX_ENABLE_X64=1 in the environment."
    )
  return jnp.dtype(name)
