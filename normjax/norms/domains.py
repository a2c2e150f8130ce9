"""Which domain each example of a batch is from: what conditional norms read.

The `context` of such a norm is one id per example, (b,) integers from 0 to
`num_domains` - 1; scenario, site, class or any other condition are such ids as
well. Norms that read features of a condition take them, too: (b, num_domains)
floats, of which an id is the one that has a 1 at its place. Without a context
all examples are of domain 0, which is allowed where there is no other.

An id that is out of range has no domain. A traced value cannot be refused:
y of that example is NaN, no statistic and no other example sees it, and the
run is marked as diverged at that step. What data gives is checked on the host
(`data.dataset.check_batch`).
"""

from typing import Any

import jax.numpy as jnp

from normjax import errors
from normjax.norms import base
from normjax.types import Array


def members(norm: str, context: Any, x: Array, num_domains: int) -> Array:
  """Whether an example is of a domain: (b, domains) booleans.

  A row is false everywhere where the id is out of range.

  Args:
    norm: its name, for errors.
    context: see the module.
    x: (b, …), what is normalised.
    num_domains: how many there are.

  Raises:
    UserError: a context that is missing or is not an id per example.
  """
  if context is None:
    _check_alone(norm, num_domains)
    return jnp.ones((x.shape[0], 1), bool)
  context = _array(norm, context)
  shape, dtype = context.shape, context.dtype
  if not jnp.issubdtype(dtype, jnp.integer) or shape != x.shape[:1]:
    raise errors.UserError(
      f"{norm}: the context is the domain of each example, integers of shape"
      f" {x.shape[:1]} for x of shape {x.shape}; got {dtype} of shape {shape}."
    )
  return context[:, None] == jnp.arange(num_domains)


def features(norm: str, context: Any, x: Array, num_domains: int) -> Array:
  """What describes the condition of each example: (b, domains) in x's dtype.

  Arguments as of `members`, but the context may be such features itself.

  Returns:
    The features; of an id its one-hot vector, NaN where it is out of range.

  Raises:
    UserError: a context that is missing or is neither.
  """
  if context is not None:
    context = _array(norm, context)
  if context is None or jnp.issubdtype(context.dtype, jnp.integer):
    return one_hot(members(norm, context, x, num_domains), x.dtype)
  expected, shape = (x.shape[0], num_domains), context.shape
  if jnp.issubdtype(context.dtype, jnp.floating) and shape == expected:
    return context.astype(x.dtype)
  raise errors.UserError(
    f"{norm}: the context is the domain of each example, integers of shape"
    f" {x.shape[:1]}, or features of shape {expected}, for x of shape"
    f" {x.shape} and num_domains={num_domains}; got"
    f" {context.dtype} of shape {shape}."
  )


def one_hot(member: Array, dtype: Any) -> Array:
  """Of what `members` gives; NaN where an example has no domain."""
  is_known = jnp.any(member, axis=1, keepdims=True)
  return jnp.where(is_known, member.astype(dtype), jnp.nan)


def check_table(
  norm: str, variables: base.Variables, name: str, num_domains: int
) -> None:
  """Raises UserError where a table was made for another number of domains.

  Args:
    norm: its name.
    variables: the norm's.
    name: of a parameter with a row for each domain, or feature of a condition.
    num_domains: how many there are.
  """
  table = variables["params"].get(name)
  if table is None:
    raise errors.UserError(
      f"{norm} needs {name!r} in variables['params'], as init makes it; got"
      f" {sorted(variables['params'])}."
    )
  if table.shape[0] != num_domains:
    raise errors.UserError(
      f"{norm}: {name!r} has the shape {table.shape}, of {table.shape[0]}"
      f" domains; num_domains={num_domains}."
    )


def rows(values: Array, x: Array) -> Array:
  """(b, …) as (b, 1, …, …), which broadcasts against the positions of x."""
  return values.reshape(len(values), *(1,) * (x.ndim - 2), values.shape[-1])


def _array(norm: str, context: Any) -> Array:
  try:
    return jnp.asarray(context)
  except (TypeError, ValueError) as error:
    raise errors.UserError(
      f"{norm}: the context is an array with a row per example; got a"
      f" {type(context).__name__}."
    ) from error


def _check_alone(norm: str, num_domains: int) -> None:
  if num_domains != 1:
    raise errors.UserError(
      f"{norm}: num_domains={num_domains} needs the domain of each example as"
      " its context, and none is given. Data gives it as the part 'domain' of"
      " a batch, as with data.domain_column; a call by"
      " `normjax.nn.given.context`."
    )
