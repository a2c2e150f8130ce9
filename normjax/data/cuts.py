"""How a set of TFDS is cut into splits, in TFDS's own strings."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from normjax import errors
from normjax.data import splits, tfds_source

# Split -> builder, and the part of its data that the split is.
Parts = Mapping[str, tuple[Any, str]]


class Cut(NamedTuple):
  """What each split is, as "train[:80%]"; "" where there is none.

  TFDS shuffles when it prepares, so that a slice is a fair sample.

  Attributes:
    train: what is trained on.
    tuning: what choices are made on.
    validation: what they led to is measured on.
    test: what nothing reads unless it is asked for.
  """

  train: str
  tuning: str
  validation: str
  test: str

  def given(
    self, train: str, tuning: str | None, validation: str, test: str | None
  ) -> "Cut":
    """The cut of a config.

    Args:
      train: see the class.
      tuning: None is this cut's where `train` and `validation` are, and else
        none: another part to train on would overlap it.
      validation: see the class.
      test: as `tuning`.
    """
    is_own = (train, validation) == (self.train, self.validation)
    rest = self if is_own else Cut("", "", "", "")
    return Cut(
      train,
      rest.tuning if tuning is None else tuning,
      validation,
      rest.test if test is None else test,
    )

  def parts(self, builder: Any) -> dict[str, tuple[Any, str]]:
    """The splits that there are, all of one builder."""
    return {
      split: (builder, text) for split, text in self._asdict().items() if text
    }


# Of each image set with an official test set.
TENTHS = Cut("train[:80%]", "train[80%:90%]", "train[90%:]", "test")


def sources(
  name: str, parts: Parts, needed: Sequence[str] = (splits.TRAIN,)
) -> dict[str, Any]:
  """Random access to each split.

  Args:
    name: of the data set.
    parts: its splits.
    needed: those that must be there.

  Raises:
    DataError: what `tfds_source.source` raises.
    UserError: two of them have examples in common, or one that is needed is
      not there.
  """
  for split in needed:
    if split not in parts:
      raise errors.UserError(
        f"data {name!r}: {split}_split=''; needed: a split of TFDS or a part of"
        f" it, as {TENTHS.train!r}."
      )
  found = {split: tfds_source.source(*part) for split, part in parts.items()}
  for one, other in itertools.combinations(parts, 2):
    if common := sum(_common(parts[one], parts[other])):
      raise errors.UserError(
        f"data {name!r}: {one}_split={parts[one][1]!r} and"
        f" {other}_split={parts[other][1]!r} have {common} examples in common;"
        f" needed: parts that do not overlap, as {TENTHS.train!r} and"
        f" {TENTHS.tuning!r}; '' leaves one out, as tuning_split=''."
      )
  return found


def _common(one: tuple[Any, str], other: tuple[Any, str]) -> Iterator[int]:
  """How many examples pieces of two splits have in common."""
  if one[0].info.full_name != other[0].info.full_name:
    return
  for (name, begin, end), (other_name, first, last) in itertools.product(
    _ranges(*one), _ranges(*other)
  ):
    if name == other_name:
      yield max(0, min(end, last) - max(begin, first))


def _ranges(builder: Any, text: str) -> list[tuple[str, int, int]]:
  """(split of TFDS, first example, end) of each piece of a part."""
  import tensorflow_datasets as tfds

  infos = dict(builder.info.splits)
  return [
    (
      piece.splitname,
      piece.from_ or 0,
      infos[piece.splitname].num_examples if piece.to is None else piece.to,
    )
    for piece in tfds.core.ReadInstruction.from_spec(text).to_absolute(infos)
  ]
