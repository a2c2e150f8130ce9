"""What one leaf of a config may be, and how a wrong value is named."""

import dataclasses
import enum
import itertools
import math
from collections.abc import Iterable
from typing import Any

MAX_INT32 = 2**31 - 1
# Traced floats are float32 in a program: beyond these they would be inf or 0.
MAX_FLOAT32 = 3.4028234663852886e38
MIN_FLOAT32 = 1.1754943508222875e-38

# The kind of a leaf that is a string or a tuple of strings.
TEXTS = str | tuple
# That of one that is parts of a whole, in the order in which they come.
FRACTIONS = tuple[float, ...]


class Effect(enum.Enum):
  """What a leaf decides.

  TRACED ones enter the compiled program as arrays, STATIC ones shape it, and
  LOOP ones steer what is around it.
  """

  TRACED = "traced"
  STATIC = "static"
  LOOP = "loop"


@dataclasses.dataclass(frozen=True)
class Field:
  """What one leaf may be.

  Attributes:
    kind: bool, int, float, str, tuple (of strings), TEXTS: one of the last
      two, or FRACTIONS.
    effect: see `Effect`.
    low: the smallest number allowed.
    high: the largest.
    above: whether `low` itself is not allowed.
    below: whether `high` itself is not allowed.
    choices: of a string; empty allows any.
  """

  kind: Any
  effect: Effect
  low: float = -math.inf
  high: float = math.inf
  above: bool = False
  below: bool = False
  choices: tuple[str, ...] = ()

  def __str__(self) -> str:
    """Says what is allowed, as in "an integer, at least 1"."""
    if self.choices:
      return " or ".join(map(repr, self.choices))
    if self.kind is bool:
      return "True or False"
    if self.kind is str:
      return "a string"
    if self.kind is tuple:
      return "a tuple of strings"
    if self.kind == TEXTS:
      return "a string or a tuple of strings"
    if self.kind == FRACTIONS:
      return "a tuple of rising numbers above 0 and below 1"
    kind = "an integer" if self.kind is int else "a finite number"
    return f"{kind}, {self.range()}"

  def range(self) -> str:
    """The numbers that are allowed, in words."""
    low = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
    top = MAX_INT32 if self.kind is int else MAX_FLOAT32
    if self.high >= top:
      return low
    high = f"below {self.high:g}" if self.below else f"at most {self.high:g}"
    return f"{low} and {high}"

  def problem(self, value: Any) -> str:
    """What is wrong with a value; nothing where it is allowed."""
    if not self._has_type(value):
      return f"must be {self}"
    if self.choices and value not in self.choices:
      return f"must be {self}"
    if self.kind not in (int, float):
      return ""
    # Python's whole numbers may be too large to be made floats.
    if isinstance(value, float) and not math.isfinite(value):
      return f"must be {self}"
    out_low = value <= self.low if self.above else value < self.low
    out_high = value >= self.high if self.below else value > self.high
    if out_low or out_high:
      beyond = value > MAX_INT32 and self.high == MAX_INT32
      return f"must be {self.range()}" + (
        f" and at most {MAX_INT32}" if beyond else ""
      )
    if self.effect is Effect.TRACED and self.kind is float:
      return float32_problem(value)
    return ""

  def _has_type(self, value: Any) -> bool:
    if self.kind == TEXTS and isinstance(value, str):
      return True
    if self.kind == FRACTIONS:
      return isinstance(value, list | tuple) and _rise(value)
    if self.kind in (tuple, TEXTS):
      return isinstance(value, list | tuple) and all(
        isinstance(item, str) for item in value
      )
    if isinstance(value, bool):
      return self.kind is bool
    if self.kind is float:
      return isinstance(value, int | float)
    return isinstance(value, self.kind)


def _rise(values: Iterable[Any]) -> bool:
  """Whether they are numbers between 0 and 1, each above the one before."""
  numbers = [0.0, *values, 1.0]
  return all(
    isinstance(each, float | int) and not isinstance(each, bool)
    for each in numbers
  ) and all(a < b for a, b in itertools.pairwise(numbers))


def float32_problem(value: float) -> str:
  """What is wrong with a number that is computed with; mostly nothing."""
  if not math.isfinite(value):
    return "must be finite"
  if abs(value) > MAX_FLOAT32 or 0 < abs(value) < MIN_FLOAT32:
    return (
      f"must be 0 or between {MIN_FLOAT32:.3g} and {MAX_FLOAT32:.3g}: it is"
      " computed with in float32"
    )
  return ""
