"""Checks of options, with one wording: who, which, its value, what is allowed.

    layer_norm: eps=-1.0; allowed: a finite number > 0.

Numbers of optimizers may be scalar arrays; one that is traced has no value yet
and is not checked. What a model or norm reads is checked where it is read.
"""

import functools
import inspect
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from normjax import errors
from normjax.registry import near_misses

MAX_INT32, MAX_INT64 = (int(np.iinfo(t).max) for t in (np.int32, np.int64))


def refuse(owner: str, name: str, value: Any, allowed: str) -> NoReturn:
  """Raises the error that says what is allowed.

  Args:
    owner: whose option it is; empty where the name says enough.
    name: the option.
    value: what was given.
    allowed: what may be, in words.

  Raises:
    UserError: always.
  """
  raise errors.UserError(_message(owner, name, repr(value), allowed))


def refuse_type(owner: str, name: str, value: Any, allowed: str) -> NoReturn:
  """As `refuse`, for a value of another type."""
  raise errors.WrongTypeError(_message(owner, name, repr(value), allowed))


def _message(owner: str, name: str, value: str, allowed: str) -> str:
  return f"{owner}{': ' if owner else ''}{name}={value}; allowed: {allowed}."


def number(
  owner: str,
  name: str,
  value: Any,
  *,
  above: float = -math.inf,
  least: float = -math.inf,
  most: float = math.inf,
  below: float = math.inf,
) -> None:
  """Checks that a value is a finite number within bounds, and no array.

  Raises:
    UserError: another value.
  """
  plain = isinstance(value, int | float) and not isinstance(value, bool)
  # Python's whole numbers may be too large to be made floats.
  if (
    plain
    and abs(value) < math.inf
    and above < value < below
    and least <= value <= most
  ):
    return
  bounds = [
    f"{sign} {bound:g}"
    for sign, bound in (
      (">", above), (">=", least), ("<=", most), ("<", below),
    )
    if math.isfinite(bound)
  ]  # fmt: skip
  allowed = " ".join(["a finite number", " and ".join(bounds)]).rstrip()
  refuse(owner, name, value, allowed)


def positive(owner: str, **values: Any) -> None:
  """Checks numbers that must be above 0."""
  for name, value in values.items():
    number(owner, name, value, above=0)


def rates(owner: str, **values: Any) -> None:
  """Checks shares such as a dropout rate: in [0, 1)."""
  for name, value in values.items():
    number(owner, name, value, least=0, below=1)


def scalar(
  owner: str,
  name: str,
  value: Any,
  *,
  least: float = 0.0,
  below: float = math.inf,
  schedule: bool = False,
) -> None:
  """Checks a number that may be a scalar array.

  Args:
    owner: the optimizer.
    name: the option.
    value: a number, a scalar array or, with `schedule`, a function.
    least: the smallest value that is allowed.
    below: values from here on are not allowed.
    schedule: whether a function of the step is allowed.

  Raises:
    WrongTypeError: not a scalar.
    UserError: a concrete scalar out of range or not finite.
  """
  if schedule and callable(value):
    return
  kinds = "a number, a scalar array" + (" or a schedule" if schedule else "")
  is_number = isinstance(value, int | float | np.number)
  is_scalar = isinstance(value, jax.Array | np.ndarray) and value.shape == ()
  if isinstance(value, bool) or not (is_number or is_scalar):
    refuse_type(owner, name, value, kinds)
  if isinstance(value, Tracer):
    return
  try:
    concrete = float(value)
  except OverflowError:  # A whole number of hundreds of digits.
    concrete = math.inf
  if not (math.isfinite(concrete) and least <= concrete < below):
    bound = f"[{least:g}, {below:g})" if below < math.inf else f">= {least:g}"
    raise errors.UserError(
      _message(owner, name, f"{concrete:g}", f"finite and {bound}")
    )


def scalars(owner: str, **values: Any) -> None:
  """Checks scalars that must be finite and >= 0."""
  for name, value in values.items():
    scalar(owner, name, value)


def betas(owner: str, **values: Any) -> None:
  """Checks decay rates of moving averages: scalars in [0, 1)."""
  for name, value in values.items():
    scalar(owner, name, value, below=1.0)


def learning_rate(owner: str, value: Any, name: str = "learning_rate") -> None:
  """Checks a learning rate: >= 0, or a schedule."""
  scalar(owner, name, value, schedule=True)


def counts(owner: str, **values: Any) -> None:
  """Checks options that count something: integers >= 1."""
  for name, value in values.items():
    count(owner, name, value)


def count(
  owner: str,
  name: str,
  value: Any,
  least: int = 1,
  default: int | None = None,
  most: int | None = None,
) -> int:
  """Checks an integer, such as one that decides on shapes.

  Args:
    owner: whose option it is.
    name: the option.
    value: an int, or None for `default`.
    least: the smallest value that is allowed.
    default: None where the option has none. Options of optimizers have one, so
      that `optax.inject_hyperparams`, which makes arrays of all numbers,
      defaults too, leaves them alone.
    most: the largest value that is allowed; None: there is none.

  Returns:
    The value, or the default.

  Raises:
    WrongTypeError: not an int. An array's message says how to keep it an int.
    UserError: an int below the least or above the most.
  """
  if value is None and default is not None:
    return default
  allowed = f"an int >= {least}"
  _refuse_array(owner, name, value, allowed)
  if isinstance(value, bool) or not isinstance(value, int | np.integer):
    refuse_type(owner, name, value, allowed)
  if value < least:
    refuse(owner, name, value, allowed)
  if most is not None and value > most:
    refuse(owner, name, value, f"{allowed} and <= {most}")
  return int(value)


def share(owner: str, name: str, value: Any, *, whole: float = 1.0) -> None:
  """Checks a part of a whole that decides on shapes: in (0, whole].

  Raises:
    WrongTypeError: an array; the message says how to keep it a number.
    UserError: no number in the range.
  """
  _refuse_array(owner, name, value, f"a finite number > 0 and <= {whole:g}")
  number(owner, name, value, above=0, most=whole)


def _refuse_array(owner: str, name: str, value: Any, allowed: str) -> None:
  """What decides on shapes is no array; inject_hyperparams makes arrays."""
  if isinstance(value, jax.Array):
    refuse_type(
      owner,
      name,
      value,
      f"{allowed}, not an array, since it decides on shapes. With"
      f' optax.inject_hyperparams name it in static_args=("{name}",)',
    )


def traced_count(
  owner: str, name: str, value: Any, least: int = 1, most: int = MAX_INT32
) -> None:
  """Checks an integer that may be a scalar array, such as a count of rounds.

  The arguments are those of `count`. What meets int32 arrays, as a count of
  steps does, must fit one.

  Raises:
    WrongTypeError: another type.
    UserError: a concrete integer out of range.
  """
  if not isinstance(value, jax.Array | np.ndarray):
    count(owner, name, value, least, most=most)
    return
  if value.shape or not jnp.issubdtype(value.dtype, jnp.integer):
    refuse_type(
      owner, name, value, f"an int >= {least} or a scalar array of integers"
    )
  if not isinstance(value, Tracer):
    count(owner, name, int(value), least, most=most)


def seed(owner: str, value: Any) -> None:
  """Checks the seed of what an optimizer draws, which may be traced."""
  traced_count(owner, "seed", value, least=0, most=MAX_INT64)


def vector(owner: str, name: str, value: Any, size: int) -> None:
  """Checks a sequence of so many finite numbers.

  Raises:
    WrongTypeError: no sequence, or an entry that is no number.
    UserError: another length, or a concrete number that is not finite.
  """
  allowed = f"{size} numbers"
  if isinstance(value, jax.Array | np.ndarray):
    if value.shape != (size,):
      refuse(owner, name, value, allowed)
  elif isinstance(value, str) or not isinstance(value, Sequence):
    refuse_type(owner, name, value, allowed)
  elif len(value) != size:
    refuse(owner, name, value, allowed)
  for entry in value:
    scalar(owner, name, entry, least=-math.inf)


def choice(owner: str, name: str, value: Any, allowed: Collection[Any]) -> None:
  """Checks a value against those that are allowed; names near misses."""
  if isinstance(value, jax.Array | np.ndarray) or value not in tuple(allowed):
    said = ", ".join(map(repr, allowed))
    if any(isinstance(known, int) for known in allowed):
      _refuse_array(owner, name, value, said)
    texts = [known for known in allowed if isinstance(known, str)]
    close = near_misses(value, texts) if isinstance(value, str) else ""
    raise errors.UserError(_message(owner, name, repr(value), said) + close)


def choose[T](owner: str, name: str, value: Any, table: Mapping[str, T]) -> T:
  """The entry of that name.

  Raises:
    UserError: there is none.
  """
  choice(owner, name, value, table)
  return table[value]


def flags(owner: str, **values: Any) -> None:
  """Checks that each is True or False: what Python takes for true is none."""
  for name, value in values.items():
    if not isinstance(value, bool):
      refuse(owner, name, value, "True, False")


def implementations(
  owner: str, impl: Any, allowed: tuple[str, ...]
) -> tuple[str, ...] | None:
  """The implementations asked for, as a tuple; None for no wish.

  Raises:
    UserError: neither None nor names, or one that is not in `allowed`.
  """
  if impl is None:
    return None
  names = tuple(impl) if isinstance(impl, list | tuple) else (impl,)
  for name in names:
    choice(owner, "impl", name, allowed)
  return names or None


def pattern(owner: str, name: str, value: Any) -> None:
  """Checks a regular expression; of a text, says why it is none."""
  if not isinstance(value, str):
    if not _pattern(value):
      refuse(owner, name, value, "a regular expression")
    return
  try:
    re.compile(value)
  except re.error as error:
    refuse(owner, name, value, f"a regular expression ({error})")


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


def is_transform(value: Any) -> bool:
  """Whether it has the methods of an optax transform."""
  return all(callable(getattr(value, n, None)) for n in ("init", "update"))


# What an option is, by its name or else its annotation.
_BY_NAME: Mapping[str, tuple[Callable[[Any], bool], str]] = {
  **dict.fromkeys(
    ("mu_dtype", "nu_dtype", "ns_dtype"), (_dtype, "a floating-point dtype")
  ),
  **dict.fromkeys(
    ("keep", "exempt", "momentum_on"), (_pattern, "a regular expression")
  ),
  **dict.fromkeys(("fallback", "inner"), (is_transform, "an optax transform")),
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
    by_name = dict(zip(parameters, args, strict=False)) | given
    for name, value in by_name.items():
      if name not in checks:
        continue
      is_allowed, allowed = checks[name]
      optional = parameters[name].annotation is not bool and name != "inner"
      if is_allowed(value) or (optional and value is None):
        continue
      owner = factory.__name__
      if isinstance(value, str) and is_allowed is _pattern:
        pattern(owner, name, value)
      say = refuse if isinstance(value, str) else refuse_type
      say(owner, name, value, f"{allowed}{' or None' if optional else ''}")
    return factory(*args, **given)

  return make
