"""Checks of what users pass: concrete numbers and the leaves of trees.

A traced scalar has no value yet and is not checked.
"""

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
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


def count(
  method: str,
  name: str,
  value: Any,
  least: int = 1,
  default: int | None = None,
) -> int:
  """Checks an integer that decides on shapes or on the state's structure.

  Args:
    method: the optimizer, for the message.
    name: the option.
    value: an int, or None for `default`.
    least: the smallest value that is allowed.
    default: None where the option has none. Options of optimizers have one, so
      that `optax.inject_hyperparams`, which makes arrays of all numbers,
      defaults too, leaves them alone.

  Returns:
    The value, or the default.

  Raises:
    TypeError: not an int. An array's message says how to keep it an int.
    UserError: an int below the least.
  """
  if value is None and default is not None:
    return default
  _refuse_array(method, name, value, f"an int >= {least}")
  if isinstance(value, bool) or not isinstance(value, int | np.integer):
    raise TypeError(f"{method}: {name}={value!r}; allowed: an int >= {least}.")
  if value < least:
    raise errors.UserError(
      f"{method}: {name}={value}; allowed: an int >= {least}."
    )
  return int(value)


def share(method: str, name: str, value: Any, *, whole: float = 1.0) -> None:
  """Checks a part of a whole that decides on shapes: in (0, whole].

  Raises:
    TypeError: no number. An array's message says how to keep it one.
    UserError: a number out of range.
  """
  allowed = f"a number in (0, {whole:g}]"
  _refuse_array(method, name, value, allowed)
  if isinstance(value, bool) or not isinstance(value, int | float | np.number):
    raise TypeError(f"{method}: {name}={value!r}; allowed: {allowed}.")
  if not 0 < value <= whole:
    raise errors.UserError(f"{method}: {name}={value}; allowed: {allowed}.")


def _refuse_array(method: str, name: str, value: Any, allowed: str) -> None:
  """What decides on shapes is no array; inject_hyperparams makes arrays."""
  if isinstance(value, jax.Array):
    raise TypeError(
      f"{method}: {name}={value!r}; allowed: {allowed}, not an array,"
      " since it decides on shapes. With optax.inject_hyperparams name it in"
      f' static_args=("{name}",).'
    )


def traced_count(method: str, name: str, value: Any, least: int = 1) -> None:
  """Checks an integer that may be a scalar array, such as a count of rounds.

  Raises:
    TypeError: another type.
    UserError: a concrete integer below the least.
  """
  if not isinstance(value, jax.Array | np.ndarray):
    count(method, name, value, least)
    return
  if value.shape or not jnp.issubdtype(value.dtype, jnp.integer):
    raise TypeError(
      f"{method}: {name}={value!r}; allowed: an int >= {least} or a scalar"
      " array of integers."
    )
  if not isinstance(value, Tracer):
    count(method, name, int(value), least)


def vector(method: str, name: str, value: Any, size: int) -> None:
  """Checks a sequence of so many finite numbers.

  Raises:
    TypeError: no sequence, or an entry that is no number.
    UserError: another length, or a concrete number that is not finite.
  """
  allowed = f"{method}: {name}={value!r}; allowed: {size} numbers."
  if isinstance(value, jax.Array | np.ndarray):
    if value.shape != (size,):
      raise errors.UserError(allowed)
  elif isinstance(value, str) or not isinstance(value, Sequence):
    raise TypeError(allowed)
  elif len(value) != size:
    raise errors.UserError(allowed)
  for entry in value:
    number(method, name, entry, least=-math.inf)


def choice(
  method: str, name: str, value: Any, allowed: tuple[str, ...]
) -> None:
  """Checks a name against those that are allowed."""
  if not isinstance(value, str) or value not in allowed:
    raise errors.UserError(
      f"{method}: {name}={value!r}; allowed: {', '.join(map(repr, allowed))}."
    )


def _flag(value: Any) -> bool:
  return isinstance(value, bool | np.bool_)


def _dtype(value: Any) -> bool:
  if isinstance(value, jax.Array | np.ndarray | int | float):
    return False
  try:
    return jnp.issubdtype(jnp.dtype(value), jnp.floating)
  except TypeError:
    return False


def _pattern(value: Any) -> bool:
  if not isinstance(value, str):
    return isinstance(value, re.Pattern) and isinstance(value.pattern, str)
  try:
    return bool(re.compile(value))
  except re.error:
    return False


def _transform(value: Any) -> bool:
  return callable(getattr(value, "init", None)) and callable(
    getattr(value, "update", None)
  )


def pattern(method: str, name: str, value: Any) -> None:
  """Raises UserError unless the value is a regular expression."""
  if not _pattern(value):
    raise errors.UserError(
      f"{method}: {name}={value!r}; allowed: a regular expression."
    )


def rules(method: str, given: Any, *, transforms: bool = False) -> None:
  """Checks rules on paths.

  Args:
    method: names it in messages.
    given: to be a sequence of (regular expression, policy).
    transforms: whether policies are to be optax transforms.

  Raises:
    TypeError: no such sequence, or a policy that is no transform.
    UserError: a pattern that is no regular expression.
  """
  pairs = isinstance(given, list | tuple) and all(
    isinstance(rule, list | tuple) and len(rule) == 2 for rule in given
  )
  if not pairs:
    raise TypeError(
      f"{method}: rules={given!r}; allowed: a list of pairs (regular"
      " expression, policy)."
    )
  for n, (path, policy) in enumerate(given):
    pattern(method, f"rules[{n}][0]", path)
    if transforms and not _transform(policy):
      raise TypeError(
        f"{method}: rules[{path!r}]={policy!r}; allowed: an optax transform."
      )


# What an option is, by its name or else its annotation.
_BY_NAME: Mapping[str, tuple[Callable[[Any], bool], str]] = {
  **dict.fromkeys(
    ("mu_dtype", "nu_dtype", "ns_dtype"), (_dtype, "a floating-point dtype")
  ),
  **dict.fromkeys(("keep", "exempt"), (_pattern, "a regular expression")),
  **dict.fromkeys(("fallback", "inner"), (_transform, "an optax transform")),
}
_IS_FLAG = (_flag, "True, False")


def options[**P, T](factory: Callable[P, T]) -> Callable[P, T]:
  """The factory, which first checks flags, dtypes, patterns and transforms.

  Where Python takes anything for true, `nesterov="no"` would be.
  """
  parameters = inspect.signature(factory).parameters
  checks: dict[str, tuple[Callable[[Any], bool], str]] = {}
  for name, parameter in parameters.items():
    if parameter.annotation in (bool, bool | None):
      checks[name] = _IS_FLAG
    elif name in _BY_NAME:
      checks[name] = _BY_NAME[name]

  @functools.wraps(factory)
  def make(*args: P.args, **given: P.kwargs) -> T:
    for name, value in {
      **dict(zip(parameters, args, strict=False)),
      **given,
    }.items():
      if name not in checks:
        continue
      is_allowed, allowed = checks[name]
      optional = parameters[name].annotation is not bool and name != "inner"
      if not (is_allowed(value) or (optional and value is None)):
        error = errors.UserError if isinstance(value, str) else TypeError
        raise error(
          f"{factory.__name__}: {name}={value!r}; allowed: {allowed}"
          f"{' or None' if optional else ''}."
        )
    return factory(*args, **given)

  return make


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
