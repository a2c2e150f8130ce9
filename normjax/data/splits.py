"""Which examples train, tune, validate and test: by a hash, so that it stays.

An example's split depends on its own key alone. Where examples are added, the
others stay where they are; where a part grows, it takes from the training part
alone, as long as those that come before it in `Fractions` stay what they are.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from normjax import errors, validate

# Training reads the first alone. Choices are made on the second, and what they
# led to is measured on the third. The last is for whoever asks for it.
TRAIN, TUNING, VALIDATION, TEST = "train", "tuning", "validation", "test"
NAMES = (TRAIN, TUNING, VALIDATION, TEST)
# Split -> indices of its examples, ascending.
Splits = Mapping[str, np.ndarray]


class Fractions(NamedTuple):
  """Of all examples, the parts that are not trained on; a hash draws them.

  Attributes:
    test: drawn first.
    validation: drawn next.
    tuning: drawn last.
  """

  test: float
  validation: float
  tuning: float

  def check(self, owner: str) -> None:
    """Raises UserError where no example would be left to train on."""
    for part, value in self._asdict().items():
      validate.number(owner, f"{part}_fraction", value, least=0, below=1)
    if sum(self) >= 1:
      said = [f"{part}_fraction={v}" for part, v in self._asdict().items()]
      raise errors.UserError(
        f"{owner}: {', '.join(said)} leave nothing to train on; allowed: a sum"
        " below 1."
      )

  def without(self, given: Iterable[str]) -> "Fractions":
    """The same, with nothing drawn for splits that are given."""
    return self._replace(**dict.fromkeys({*given} & {*self._fields}, 0.0))

  def of(self, places: np.ndarray) -> np.ndarray:
    """The split of each of `places`, as numbers of `_ORDER`."""
    return np.searchsorted(np.cumsum(self), places, side="right")


# What the lowest places are, and so on.
_ORDER = (TEST, VALIDATION, TUNING, TRAIN)


def shares(keys: Iterable[bytes]) -> np.ndarray:
  """Where the hash of each key lies in [0, 1); float64."""
  digests = b"".join(
    hashlib.blake2b(key, digest_size=8).digest() for key in keys
  )
  return _to_shares(np.frombuffer(digests, "<u8"))


def index_shares(size: int) -> np.ndarray:
  """The same for 0 to size - 1, as SplitMix64 mixes them."""
  with np.errstate(over="ignore"):
    mixed = (np.arange(size, dtype=np.uint64) + 1) * np.uint64(
      0x9E3779B97F4A7C15
    )
    mixed = (mixed ^ (mixed >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> 27)) * np.uint64(0x94D049BB133111EB)
  return _to_shares(mixed ^ (mixed >> 31))


def _to_shares(mixed: np.ndarray) -> np.ndarray:
  # 53 bits: with more, the largest would round to 1.
  return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def by_share(places: np.ndarray, fractions: Fractions) -> dict[str, np.ndarray]:
  """The lowest shares test, the next validate, then tune; all others train.

  Args:
    places: of `shares`.
    fractions: of all examples.
  """
  numbers = fractions.of(places)
  return {
    split: np.flatnonzero(numbers == _ORDER.index(split)) for split in NAMES
  }


def of_key(key: bytes, fractions: Fractions) -> str:
  """The split of one example; `by_share` of `shares` says the same."""
  return _ORDER[int(fractions.of(shares([key]))[0])]


def chosen(name: str, split: str, there: Mapping[str, Any]) -> Any:
  """What a data set has of a split.

  Args:
    name: of the data set.
    split: asked for.
    there: split -> what it has; None where there is no such split.

  Raises:
    UserError: there is no such split; the message names those there are.
  """
  there = {each: part for each, part in there.items() if part is not None}
  if split not in there:
    raise errors.UserError(
      f"data {name!r} has no split {split!r}; allowed:"
      f" {', '.join(map(repr, there))}."
    )
  return there[split]


def part(data: Any, split: str) -> Any:
  """The part of a data set that has an attribute per split.

  Raises:
    UserError: there is no such split; the message names those there are.
  """
  there = {each: getattr(data, each) for each in NAMES}
  return chosen(data.name, split, there)


def evaluated_on(
  data: Any, split: str, options: Mapping[str, Any] | None = None
) -> Any:
  """A data set, evaluated on one of its splits.

  Args:
    data: see `dataset.Dataset`; one's own may have no `on_split`, and then
      has what it trains on and what validates.
    split: "train", "tuning", "validation" or "test".
    options: of the data set, to say which of them gives the split nothing.

  Raises:
    UserError: it has no such split.
  """
  if not hasattr(data, "on_split"):
    return chosen(data.name, split, {VALIDATION: data})
  try:
    return data.on_split(split)
  except errors.UserError as error:
    said = "".join(
      f" data.{key}={value!r} gives it none."
      for key, value in (options or {}).items()
      if key in (f"{split}_split", f"{split}_fraction")
    )
    raise type(error)(f"{error}{said}") from error
