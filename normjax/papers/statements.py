"""What is expected of a table's cells, written down before it is measured.

Each statement bounds a weighted sum of cells, seed by seed: that a is above b
is a - b > 0; that a gap is less than half another is (c - d) / 2 - (a - b) > 0;
that a value is exact bounds it from both sides.
"""

import dataclasses
import math
from collections.abc import Mapping

from normjax import errors

Ref = str | tuple[str, str]

VALUE = "value"
DIVERGENCE = "divergence"


@dataclasses.dataclass(frozen=True)
class Expected:
  """A statement: at_least <= sum of weight * value <= at_most.

  Attributes:
    claim: the statement as a sentence.
    terms: cell to weight.
    at_least: lower bound, in the units of the cells; None: there is none.
    at_most: upper bound; None: there is none.
    source: where it comes from, as in "Table 4" or "abstract".
    of: "value": the cells' values; "divergence": 1 for each final run that
      diverged, and 0 for each that did not.
  """

  claim: str
  terms: Mapping[Ref, float]
  at_least: float | None = None
  at_most: float | None = None
  source: str = ""
  of: str = VALUE

  def __post_init__(self):
    """Raises UserError for a statement that says nothing."""
    check_name("Expected.claim", self.claim)
    if self.of not in (VALUE, DIVERGENCE):
      raise errors.UserError(
        f"expected {self.claim!r}: of={self.of!r}; allowed: {VALUE!r},"
        f" {DIVERGENCE!r}."
      )
    bounds = [b for b in (self.at_least, self.at_most) if b is not None]
    if not self.terms or not bounds or not all(map(math.isfinite, bounds)):
      raise errors.UserError(
        f"expected {self.claim!r} needs terms and a finite bound, got"
        f" terms={dict(self.terms)}, at_least={self.at_least},"
        f" at_most={self.at_most}."
      )
    if len(bounds) == 2 and self.at_least > self.at_most:  # type: ignore
      raise errors.UserError(
        f"expected {self.claim!r}: at_least={self.at_least} is above"
        f" at_most={self.at_most}."
      )
    for ref, weight in self.terms.items():
      if not math.isfinite(weight) or weight == 0:
        raise errors.UserError(
          f"expected {self.claim!r}: the weight of {shown(ref)!r} is {weight};"
          " a finite number other than 0 is needed."
        )

  def told(self) -> dict[str, object]:
    """As JSON has it; what a digest is made of."""
    return {
      "claim": self.claim,
      "terms": [[shown(ref), weight] for ref, weight in self.terms.items()],
      "at_least": self.at_least,
      "at_most": self.at_most,
      "source": self.source,
      "of": self.of,
    }


def shown(ref: Ref) -> str:
  """A cell's name in messages."""
  return ref if isinstance(ref, str) else ", ".join(ref)


def check_name(what: str, name: object, empty: bool = False) -> None:
  """Refuses a name that files could not have, or nobody could read.

  Args:
    what: it is, for the message.
    name: given by a table's file.
    empty: whether it may be "".

  Raises:
    UserError: it is no text, or blank, or has no bytes in UTF-8.
  """
  fits = isinstance(name, str) and (name.strip() or (empty and not name))
  if fits:
    fits = name.encode("utf-8", "ignore").decode() == name
  if not fits:
    kind = "a text" if empty else "a text that is not empty"
    raise errors.UserError(f"{what}={name!r}; allowed: {kind}.")


def _two(a: Ref, weight_a: float, b: Ref, weight_b: float) -> dict[Ref, float]:
  """The terms of a statement about two cells.

  Raises:
    UserError: both are one cell; the second weight would replace the first.
  """
  if a == b:
    raise errors.UserError(f"a statement compares {shown(a)!r} with itself.")
  return {a: weight_a, b: weight_b}


def above(
  a: Ref, b: Ref, by: float = 0.0, claim: str | None = None, source: str = ""
) -> Expected:
  """The statement a - b > by."""
  text = f"{shown(a)} is above {shown(b)}" + (f" by {by:g}" if by else "")
  return Expected(claim or text, _two(a, 1.0, b, -1.0), by, None, source)


def below(
  a: Ref, b: Ref, by: float = 0.0, claim: str | None = None, source: str = ""
) -> Expected:
  """The statement b - a > by."""
  text = f"{shown(a)} is below {shown(b)}" + (f" by {by:g}" if by else "")
  return Expected(claim or text, _two(b, 1.0, a, -1.0), by, None, source)


def within(
  a: Ref, b: Ref, of: float, claim: str | None = None, source: str = ""
) -> Expected:
  """The statement |a - b| < of."""
  text = f"{shown(a)} is within {of:g} of {shown(b)}"
  return Expected(claim or text, _two(a, 1.0, b, -1.0), -of, of, source)


def between(
  a: Ref, low: float, high: float, claim: str | None = None, source: str = ""
) -> Expected:
  """The statement low < a < high."""
  text = f"{shown(a)} is between {low:g} and {high:g}"
  return Expected(claim or text, {a: 1.0}, low, high, source)


def at_least(
  a: Ref, value: float, claim: str | None = None, source: str = ""
) -> Expected:
  """The statement a > value."""
  text = f"{shown(a)} is at least {value:g}"
  return Expected(claim or text, {a: 1.0}, value, None, source)


def at_most(
  a: Ref, value: float, claim: str | None = None, source: str = ""
) -> Expected:
  """The statement a < value."""
  text = f"{shown(a)} is at most {value:g}"
  return Expected(claim or text, {a: 1.0}, None, value, source)


def exactly(
  a: Ref, value: float, claim: str | None = None, source: str = ""
) -> Expected:
  """The statement a = value, in every run."""
  text = f"{shown(a)} is exactly {value:g}"
  return Expected(claim or text, {a: 1.0}, value, value, source)


def ratio_below(
  a: Ref, b: Ref, ratio: float, claim: str | None = None, source: str = ""
) -> Expected:
  """The statement a / b < ratio, of positive numbers."""
  text = f"{shown(a)} is below {ratio:g} times {shown(b)}"
  return Expected(claim or text, _two(b, ratio, a, -1.0), 0.0, None, source)


def ratio_above(
  a: Ref, b: Ref, ratio: float, claim: str | None = None, source: str = ""
) -> Expected:
  """The statement a / b > ratio, of positive numbers."""
  text = f"{shown(a)} is above {ratio:g} times {shown(b)}"
  return Expected(claim or text, _two(a, 1.0, b, -ratio), 0.0, None, source)


def diverges(a: Ref, claim: str | None = None, source: str = "") -> Expected:
  """The statement that every final run diverges."""
  text = f"{shown(a)} diverges in every run"
  return Expected(claim or text, {a: 1.0}, 1.0, None, source, DIVERGENCE)


def trains(a: Ref, claim: str | None = None, source: str = "") -> Expected:
  """The statement that no final run diverges."""
  text = f"{shown(a)} diverges in no run"
  return Expected(claim or text, {a: 1.0}, None, 0.0, source, DIVERGENCE)
