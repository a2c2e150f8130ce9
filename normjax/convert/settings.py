"""What a config.json says, read key by key with one wording for what is wrong.

out/config.json: n_head=0; allowed: a whole number >= 1.
"""

import reprlib
import sys
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from normjax import errors

_REQUIRED: Any = object()
# Above it no size of an array is meant, and products of two leave 64 bits.
_TOO_MANY = 2**31
# A value may be as long as a file.
_SHORT = reprlib.Repr(
  maxstring=80, maxother=80, maxlong=40, maxlist=20, maxdict=8
)


def is_count(value: Any, least: int = 1) -> bool:
  """Whether a value is a whole number that may be a size."""
  whole = isinstance(value, int) and not isinstance(value, bool)
  return whole and least <= value < _TOO_MANY


class Settings:
  """A config.json, or a block of it.

  A key whose value is null counts as absent, as it does in transformers.
  """

  def __init__(self, values: Mapping[str, Any], where: str, prefix: str = ""):
    """Wraps the values.

    Args:
      values: of the file.
      where: the file, for messages.
      prefix: of the keys in messages: the block's key and a dot.
    """
    self.values, self.where, self._prefix = values, where, prefix

  def __contains__(self, key: str) -> bool:
    return self.values.get(key) is not None

  def refuse(self, key: str, why: str) -> NoReturn:
    """Raises the error that names the file, the key and its value."""
    shown = f"{self._prefix}{key}"
    if key in self.values:
      shown += f"={_SHORT.repr(self.values[key])}"
    raise errors.UserError(f"{self.where}: {shown}; {why}.")

  def get(self, key: str, default: Any = _REQUIRED) -> Any:
    """The value as it is.

    Raises:
      UserError: it is absent and there is no default.
    """
    if key in self:
      return self.values[key]
    if default is _REQUIRED:
      raise errors.UserError(f"{self.where} lacks {self._prefix}{key!r}.")
    return default

  def count(
    self, key: str, default: int | None = _REQUIRED, least: int = 1
  ) -> Any:
    """A whole number of `least` or more; the default may be None."""
    value = self.get(key, default)
    if key in self and not is_count(value, least):
      self.refuse(key, f"allowed: a whole number >= {least}, < 2^31")
    return value

  def number(
    self,
    key: str,
    default: float | None = _REQUIRED,
    most: float = sys.float_info.max,
  ) -> Any:
    """A positive finite number; the default may be None.

    Args:
      key: of the value.
      default: where the key is absent.
      most: above it, a size that is made from it is no size.
    """
    value = self.get(key, default)
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if key in self and not (plain and 0 < value <= most):
      limit = "" if most == sys.float_info.max else f", <= {most:g}"
      self.refuse(key, f"allowed: a finite number > 0{limit}")
    return value if value is None else float(value)

  def flag(self, key: str, default: bool = _REQUIRED) -> bool:
    """True or False."""
    value = self.get(key, default)
    if not isinstance(value, bool):
      self.refuse(key, "allowed: true, false")
    return value

  def choice(
    self, key: str, table: Mapping[Any, Any], default: Any = _REQUIRED
  ) -> Any:
    """What a value is called here.

    Args:
      key: of the value.
      table: their value to ours; all others are refused.
      default: their value where the key is absent.
    """
    value = self.get(key, default)
    if isinstance(value, Collection) and not isinstance(value, str):
      known = False
    else:
      known = value in table
    if not known:
      names = ", ".join(map(repr, table))
      self.refuse(key, f"allowed here: {names}")
    return table[value]

  def only(self, key: str, *allowed: Any) -> None:
    """Refuses any other value; absent is allowed.

    Raises:
      UserError: the model here does not have what the value asks for.
    """
    if key in self and not any(
      value == self.values[key] and type(value) is type(self.values[key])
      for value in allowed
    ):
      names = ", ".join(map(repr, allowed))
      self.refuse(key, f"models here have only {names}")

  def block(self, key: str) -> "Settings | None":
    """A block in the file, or None where it is absent."""
    if key not in self:
      return None
    value = self.values[key]
    if not isinstance(value, Mapping):
      self.refuse(key, "allowed: a block of keys and values")
    return Settings(value, self.where, f"{self._prefix}{key}.")
