"""Which examples train, validate and test: by a hash, so that it stays so.

An example's split depends on its own key alone. Where examples are added, the
others stay where they are; where the validation part grows, the test set
stays.
"""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from normjax import errors, validate

TRAIN, VALIDATION, TEST = "train", "validation", "test"
# Split -> indices of its examples, ascending.
Splits = Mapping[str, np.ndarray]


def check_fractions(
  owner: str, validation_fraction: float, test_fraction: float
) -> None:
  """Raises UserError where no example would be left to train on."""
  for option, value in (
    ("validation_fraction", validation_fraction),
    ("test_fraction", test_fraction),
  ):
    validate.number(owner, option, value, least=0, below=1)
  if validation_fraction + test_fraction >= 1:
    raise errors.UserError(
      f"{owner}: validation_fraction={validation_fraction} and"
      f" test_fraction={test_fraction} leave nothing to train on; allowed: a"
      " sum below 1."
    )


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


def by_share(
  places: np.ndarray, validation_fraction: float, test_fraction: float
) -> dict[str, np.ndarray]:
  """The lowest shares test, the next validate, all others train.

  Args:
    places: of `shares`.
    validation_fraction: of all examples.
    test_fraction: likewise.
  """
  validates = test_fraction + validation_fraction
  return {
    TRAIN: np.flatnonzero(places >= validates),
    VALIDATION: np.flatnonzero(
      (places >= test_fraction) & (places < validates)
    ),
    TEST: np.flatnonzero(places < test_fraction),
  }


def of_key(key: bytes, validation_fraction: float, test_fraction: float) -> str:
  """The split of one example; `by_share` of `shares` says the same."""
  (place,) = shares([key])
  if place < test_fraction:
    return TEST
  return VALIDATION if place < test_fraction + validation_fraction else TRAIN


def check_split(name: str, split: str, there: Iterable[str]) -> None:
  """Raises UserError where a data set has no such split.

  Args:
    name: of the data set.
    split: asked for.
    there: the splits that have examples.
  """
  there = tuple(there)
  if split not in there:
    raise errors.UserError(
      f"data {name!r} has no split {split!r}; allowed:"
      f" {', '.join(map(repr, there))}."
    )
