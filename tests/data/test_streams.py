"""Orders of examples: each example once, and the limits of each rule."""

import numpy as np
import pytest

from normjax import errors
from normjax.data import examples, streams

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 30))


def _changes(values):
  return int((np.diff(values) != 0).sum())


def _is_permutation(order):
  return order.dtype == np.int64 and sorted(order) == list(range(len(LABELS)))


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("concentration", [1e-9, 0.1, 1.0, 1e9])
@pytest.mark.parametrize("num_slots", [None, 1, 7])
def test_each_example_once(balanced, concentration, num_slots):
  order = streams.correlated(
    LABELS, concentration, 3, num_slots=num_slots, balanced=balanced
  )
  assert _is_permutation(order)
  np.testing.assert_array_equal(
    order,
    streams.correlated(
      LABELS, concentration, 3, num_slots=num_slots, balanced=balanced
    ),
  )
  cut = streams.batches(order, 64)
  assert [len(batch) for batch in cut] == [64] * 4 + [44]
  np.testing.assert_array_equal(np.concatenate(cut), order)


def test_a_small_concentration_sorts_by_class():
  for shuffle_slots in (False, True):
    order = streams.correlated(LABELS, 1e-9, 1, shuffle_slots=shuffle_slots)
    # As many slots as classes of one size: each class fills a slot.
    assert _changes(LABELS[order]) == 9
  other = streams.correlated(LABELS, 1e-9, 2)
  assert list(LABELS[other[::30]]) != list(LABELS[order[::30]])


def test_a_large_concentration_gives_each_slot_the_same_part_of_each_class():
  options = {"num_slots": 7, "balanced": False}
  order = streams.correlated(LABELS, 1e12, 0, **options)
  # Parts of 1/7 to 1e-6: cuts of 30 at the floors of 30 k / 7, none of which
  # is near a whole number, times ten classes.
  cuts = np.floor(30 * np.arange(1, 7) / 7).astype(int)
  for slot in np.split(LABELS[order], 10 * cuts):
    counts = np.bincount(slot, minlength=10)
    assert len(set(counts)) == 1
    assert counts[0] in (4, 5)
    assert _changes(slot) == 9
  mixed = streams.correlated(LABELS, 1e12, 0, shuffle_slots=True, **options)
  # A shuffle changes label with probability 9/10 between neighbours: 269 of
  # 299, with a deviation below sqrt(299 * 0.9 * 0.1) = 5.2.
  assert abs(_changes(LABELS[mixed]) - 269) < 5 * 5.2


def test_correlation_falls_with_the_concentration():
  # The mean over batches of the largest class's part.
  largest = [
    np.mean(
      [
        np.bincount(LABELS[batch]).max() / len(batch)
        for seed in range(5)
        for batch in streams.batches(
          streams.correlated(LABELS, c, seed, shuffle_slots=True), 30
        )
      ]
    )
    for c in (1e-9, 0.1, 1.0, 1e9)
  ]
  assert largest[0] == 1.0
  assert sorted(largest, reverse=True) == largest


def test_without_balance_slots_are_the_plain_dirichlet_draws():
  """The official order of RoTTA's sampler, from the same random numbers."""
  generator = np.random.default_rng(_stream(4))
  slots = [[] for _ in range(10)]
  for label in range(10):
    ids = generator.permutation(np.flatnonzero(label == LABELS))
    partition = generator.dirichlet([0.3] * 10)
    cuts = (np.cumsum(partition)[:-1] * len(ids)).astype(int)
    for s, part in enumerate(np.split(ids, cuts)):
      slots[s].append(part)
  expected = []
  for parts in slots:
    for i in generator.permutation(len(parts)):
      expected.extend(parts[i])
  actual = streams.correlated(LABELS, 0.3, 4, balanced=False)
  np.testing.assert_array_equal(actual, expected)


def test_balance_closes_full_slots():
  """NOTE's rule, from the same random numbers."""
  generator = np.random.default_rng(_stream(4))
  size = len(LABELS)
  held, parts_of = [0] * 10, [[] for _ in range(10)]
  for label in range(10):
    ids = generator.permutation(np.flatnonzero(label == LABELS))
    proportions = generator.dirichlet(np.repeat(0.3, 10))
    proportions = np.array(
      [
        p * (count < size / 10)
        for p, count in zip(proportions, held, strict=True)
      ]
    )
    proportions = proportions / proportions.sum()
    cuts = (np.cumsum(proportions) * len(ids)).astype(int)[:-1]
    for s, part in enumerate(np.split(ids, cuts)):
      held[s] += len(part)
      parts_of[s].append(part)
  expected = []
  for parts in parts_of:
    for i in generator.permutation(10):
      expected.extend(parts[i])
  actual = streams.correlated(LABELS, 0.3, 4)
  np.testing.assert_array_equal(actual, expected)


def _stream(seed):
  from normjax import rng

  return rng.host_seed(seed, "correlated")


def test_domain_after_domain_or_mixed():
  domains = np.tile([7, 7, 2, 5], 75)
  order = streams.by_domain(domains, 1)
  assert _is_permutation(order)
  seen = domains[order]
  assert list(dict.fromkeys(seen.tolist())) == [7, 2, 5]
  assert _changes(seen) == 2
  assert (np.diff(order[:150]) < 0).any(), "a domain is shuffled"
  mixed = streams.by_domain(domains, 1, mixed=True)
  assert _is_permutation(mixed)
  assert _changes(domains[mixed]) > 100
  both = streams.by_domain(domains, 1, labels=LABELS, concentration=1e-9)
  assert _is_permutation(both)
  assert _changes(domains[both]) == 2
  # In a domain classes differ in size, so that one may be cut: at most one per
  # slot that is filled before its last class.
  assert _changes(LABELS[both][:150]) < 20
  together = streams.by_domain(
    domains, 1, mixed=True, labels=LABELS, concentration=1e-9
  )
  assert _changes(LABELS[together]) == 9
  assert _changes(domains[together]) > 100


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_tasks_are_disjoint_and_cover(seed):
  tasks = streams.split_classes(LABELS, 5, seed)
  assert len(tasks) == 5
  assert _is_permutation(np.concatenate([task.index for task in tasks]))
  assert sorted(np.concatenate([task.classes for task in tasks])) == list(
    range(10)
  )
  for task in tasks:
    assert set(LABELS[task.index]) == set(task.classes)
    assert len(task.classes) == 2
  if seed is None:
    assert [list(task.classes) for task in tasks] == [
      [2 * i, 2 * i + 1] for i in range(5)
    ]


def test_evaluation_follows_an_order():
  inputs = np.random.default_rng(0).integers(256, size=(300, 8, 8, 1))
  dataset = examples.Examples(
    name="small",
    train=(inputs.astype(np.uint8), LABELS),
    validation=(inputs.astype(np.uint8), LABELS),
    num_classes=10,
    mean=np.asarray(0.0),
    deviation=np.asarray(1.0),
    reads="images",
    provenance={},
  )
  order = streams.correlated(LABELS, 0.1, 0)
  ordered = dataset.in_order(order)
  shown = list(ordered.evaluation_batches(64))
  weight = np.concatenate([batch["weight"] for batch in shown])
  targets = np.concatenate([batch["targets"] for batch in shown])
  np.testing.assert_array_equal(targets[weight > 0], LABELS[order])
  # A part of the examples is a stream, too, and an image keeps its noise.
  noisy = dataset.corrupted("gaussian_noise_1")
  every = {
    image.tobytes()
    for batch in noisy.evaluation_batches(64)
    for image in batch["inputs"]
  }
  (part,) = noisy.in_order(order[:5]).evaluation_batches(5)
  assert {image.tobytes() for image in part["inputs"]} <= every


def test_bad_input_says_what_is_allowed():
  with pytest.raises(errors.UserError, match="concentration=0; allowed"):
    streams.correlated(LABELS, 0)
  with pytest.raises(errors.UserError, match="num_slots=0; allowed: an int"):
    streams.correlated(LABELS, num_slots=0)
  with pytest.raises(errors.UserError, match="vector of integers"):
    streams.correlated(LABELS / 2)
  with pytest.raises(errors.UserError, match="vector of integers"):
    streams.by_domain(LABELS[None])
  with pytest.raises(errors.UserError, match="3 labels for 300 domains"):
    streams.by_domain(LABELS, labels=LABELS[:3])
  with pytest.raises(errors.UserError, match="num_tasks=3 does not divide the"):
    streams.split_classes(LABELS, 3)
  with pytest.raises(errors.UserError, match="batch_size=0"):
    streams.batches(LABELS, 0)
