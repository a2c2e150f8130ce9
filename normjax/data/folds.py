"""Cross-validation: which part of a small set validates, by the run's seed.

    fold(seed) = (seed mod 1000) mod num_folds

validates, the next one tunes, and the others are trained on. All methods of a
comparison have the same parts at the same seed, so that seeds stay pairs, and
n seeds see n different parts, up to `num_folds`. Two seeds that are 1000 apart,
as those of a final run and of its trials unless a sweep says otherwise, have
the same parts whatever `num_folds` is: the trials never see what the final run
is validated on. Trials of another fold do.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from normjax import errors, rng, validate
from normjax.data import splits

# One validates, one tunes, one at least is trained on.
_LEAST = 3
# Seeds that are so far apart have the same parts.
PERIOD = 1000


def of_seed(seed: int, num_folds: int) -> int:
  """The fold that validates at a seed."""
  return seed % PERIOD % num_folds


def check(name: str, num_folds: int, size: int) -> None:
  """Raises UserError where examples cannot be cut into so many folds.

  Args:
    name: of the data set.
    num_folds: 0 is none.
    size: examples of the set.
  """
  validate.count(name, "num_folds", num_folds, 0)
  if num_folds and not _LEAST <= num_folds <= size:
    raise errors.UserError(
      f"data {name!r}: num_folds={num_folds}; allowed: 0, which draws one"
      f" fixed validation part, or {_LEAST} to {size}: one fold validates, one"
      " tunes, the others are trained on."
    )


def numbers(groups: np.ndarray, num_folds: int) -> np.ndarray:
  """The fold of each example, by a fixed shuffle.

  Folds differ by at most one example in size, and in how many they have of a
  group.

  Args:
    groups: (n,) integers, such as classes.
    num_folds: k.

  Returns:
    (n,) int64, 0 to k - 1.
  """
  generator = np.random.default_rng(rng.host_seed(0, "folds"))
  found = np.empty(len(groups), np.int64)
  # One group goes on where the one before it ended.
  order = np.concatenate(
    [
      generator.permutation(np.flatnonzero(groups == group))
      for group in np.unique(groups)
    ]
  )
  found[order] = np.arange(len(groups)) % num_folds
  return found


def drawn(
  places: np.ndarray, test_fraction: float, fold: int, num_folds: int
) -> splits.Splits:
  """The same as `parts`, of examples that a hash draws.

  Examples that are added do not move the others to another fold.

  Args:
    places: of `splits.shares`.
    test_fraction: of the examples, in no fold.
    fold: which of them validates.
    num_folds: k.
  """
  share = (1 - test_fraction) / num_folds
  behind = (places - test_fraction - fold * share) % (1 - test_fraction)
  moved = np.where(places < test_fraction, places, test_fraction + behind)
  fractions = splits.Fractions(test_fraction, share, share)
  return splits.by_share(moved, fractions)


def parts(folds: np.ndarray, fold: int, num_folds: int) -> splits.Splits:
  """Split -> indices of its examples, ascending.

  Args:
    folds: of `numbers`.
    fold: which of them validates.
    num_folds: k.
  """
  tunes = (fold + 1) % num_folds
  return {
    splits.TRAIN: np.flatnonzero((folds != fold) & (folds != tunes)),
    splits.TUNING: np.flatnonzero(folds == tunes),
    splits.VALIDATION: np.flatnonzero(folds == fold),
  }


class Draw(NamedTuple):
  """How examples are drawn by a hash: by fractions, or into folds.

  Attributes:
    fractions: of all examples; with folds, that of the test split alone.
    num_folds: k; 0 draws by fractions.
    fold: which of them validates.
  """

  fractions: splits.Fractions
  num_folds: int
  fold: int

  def rows(self, size: int) -> splits.Splits:
    """Split -> rows, of so many; see `splits.index_shares`."""
    places = splits.index_shares(size)
    if not self.num_folds:
      return splits.by_share(places, self.fractions)
    return drawn(places, self.fractions.test, self.fold, self.num_folds)

  @property
  def option(self) -> str:
    """The option that gives a split too little."""
    if self.num_folds:
      return f"num_folds={self.num_folds}"
    return f"validation_fraction={self.fractions.validation}"


# What a provenance says of one fold alone.
_OF_FOLD = ("sizes", "sha256", "targets", "domains")


def joined(of_fold: Sequence[Any]) -> Any:
  """The first fold of a set, with all of them in it.

  The provenance becomes that of the whole set, the same for all seeds; what is
  a fold's own, each run says apart.

  Args:
    of_fold: `examples.Examples` at seeds 0, 1, …
  """
  apart = []
  for number, made in enumerate(of_fold):
    own = {k: v for k, v in made.provenance.items() if k in _OF_FOLD}
    rest = {k: v for k, v in made.provenance.items() if k not in _OF_FOLD}
    whole = {
      "examples": sum(own["sizes"].values()),
      "num_folds": len(of_fold),
    }
    apart.append(
      dataclasses.replace(
        made, provenance=rest | whole, fold={"number": number, **own}
      )
    )
  return dataclasses.replace(apart[0], folds=tuple(apart))
