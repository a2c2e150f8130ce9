import numpy as np
import pytest

from normjax import errors
from normjax.data import splits
from normjax.data.splits import Fractions


def _names(prefix, count):
  return [f"{prefix}/{index}.png".encode() for index in range(count)]


@pytest.mark.parametrize(
  "places",
  [splits.shares(_names("cat", 20_000)), splits.index_shares(20_000)],
  ids=["keys", "numbers"],
)
def test_shares_are_uniform_and_divide_as_asked(places):
  assert places.min() >= 0
  assert places.max() < 1
  parts = splits.by_share(places, Fractions(0.1, 0.2, 0.05))
  assert sorted(np.concatenate([*parts.values()])) == list(range(20_000))
  for split, share in (
    ("train", 0.65), ("tuning", 0.05), ("validation", 0.2), ("test", 0.1),
  ):  # fmt: skip
    deviation = (share * (1 - share) / 20_000) ** 0.5
    assert abs(len(parts[split]) / 20_000 - share) < 5 * deviation
  # Neighbours have nothing to do with one another.
  correlation = np.corrcoef(places[:-1], places[1:])[0, 1]
  assert abs(correlation) < 5 / 20_000**0.5


def test_an_example_stays_in_its_split():
  few, more = _names("cat", 50), _names("ant", 30) + _names("cat", 60)
  split_of = {
    size: {
      names[index]: split
      for split, found in splits.by_share(
        splits.shares(names), Fractions(0.2, 0.3, 0.1)
      ).items()
      for index in found
    }
    for size, names in (("few", few), ("more", more))
  }
  assert all(split_of["more"][n] == s for n, s in split_of["few"].items())
  np.testing.assert_array_equal(
    splits.index_shares(10), splits.index_shares(40)[:10]
  )
  for key in more:
    fractions = Fractions(0.2, 0.3, 0.1)
    assert splits.of_key(key, fractions) == split_of["more"][key]
  # A larger validation part takes from the training part alone.
  places = splits.shares(few)
  narrow, wide = (
    splits.by_share(places, Fractions(0.2, f, 0)) for f in (0.1, 0.5)
  )
  np.testing.assert_array_equal(narrow["test"], wide["test"])
  assert {*narrow["validation"]} < {*wide["validation"]}
  # So does the part to tune on: the others stay what they are without one.
  tuned = splits.by_share(places, Fractions(0.2, 0.1, 0.3))
  for split in ("validation", "test"):
    np.testing.assert_array_equal(tuned[split], narrow[split])
  assert {*tuned["tuning"]} < {*narrow["train"]}
  assert {*tuned["train"]} == {*narrow["train"]} - {*tuned["tuning"]}


def test_the_hash_is_the_one_that_past_runs_had():
  np.testing.assert_allclose(
    [*splits.shares([b"cat/0.png", b""]), *splits.index_shares(2)],
    # By Python's own whole numbers.
    [
      0.8655707379439689,
      0.7058483037031942,
      0.8833108082136426,
      0.43152799704850997,
    ],
    rtol=1e-15,
  )


@pytest.mark.parametrize(
  ("test", "validation", "tuning", "message"),
  [
    (0.0, 1.0, 0.0, "validation_fraction=1.0; allowed"),
    (-0.1, 0.1, 0.0, "test_fraction=-0.1; allowed"),
    (0.0, 0.1, 2.0, "tuning_fraction=2.0; allowed"),
    (0.3, 0.5, 0.2, "leave nothing to train on; allowed: a sum below 1"),
    (0.5, True, 0.0, "validation_fraction=True"),
  ],
)
def test_fractions_out_of_range(test, validation, tuning, message):
  with pytest.raises(errors.UserError, match=message):
    Fractions(test, validation, tuning).check("mine")


def test_a_set_without_splits_has_what_validates_alone():
  class Own:
    name = "mine"

  own = Own()
  assert splits.evaluated_on(own, "validation") is own
  with pytest.raises(errors.UserError, match="'tuning'; allowed: 'validation'"):
    splits.evaluated_on(own, "tuning")
