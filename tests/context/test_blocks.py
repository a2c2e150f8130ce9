"""Blocks of one domain, their controls, and the loop over them."""

import itertools

import numpy as np
import pytest

from normjax import context, errors, models
from normjax.context import loop
from normjax.data import blocks as groups

RNG = np.random.default_rng(0)
# Domain 7 has 30 queries and 4 controls, domain 9 has 12 and 20.
DOMAINS = RNG.permutation(np.repeat([7, 9], [34, 32]))


def _examples():
  control = np.zeros(66, bool)
  for domain, count in ((7, 4), (9, 20)):
    control[np.flatnonzero(domain == DOMAINS)[:count]] = True
  labels = RNG.integers(3, size=66)
  centres = 3 * np.random.default_rng(1).normal(size=(3, 8))
  shift = np.where(DOMAINS == 7, 4.0, -4.0)[:, None]
  inputs = centres[labels] + shift + 0.3 * RNG.normal(size=(66, 8))
  return context.Domains(inputs.astype(np.float32), labels, DOMAINS, control)


EXAMPLES = _examples()


def test_training_blocks():
  """Of one domain each, controls apart, as many steps as fit."""
  steps = list(
    groups.sampled(EXAMPLES, 5, 0, num_controls=4, per_step=2)
  )  # fmt: skip
  assert len(steps) == 42 // 10
  blocks = list(itertools.chain(*steps))
  assert {block.domain for block in blocks} == {7, 9}
  for block in blocks:
    both = np.concatenate([block.queries, block.controls])
    assert (DOMAINS[both] == block.domain).all()
    assert not EXAMPLES.is_control[block.queries].any()
    assert EXAMPLES.is_control[block.controls].all()
    assert (len(block.queries), len(block.controls)) == (5, 4)
    # Of more controls than are asked for, different ones.
    if block.domain == 9:
      assert len(set(block.controls)) == 4
  again = list(groups.sampled(EXAMPLES, 5, 0, num_controls=4, per_step=2))
  for one, other in zip(steps, again, strict=True):
    for a, b in zip(one, other, strict=True):
      np.testing.assert_array_equal(a.queries, b.queries)
      np.testing.assert_array_equal(a.controls, b.controls)


@pytest.mark.parametrize(("uniform", "share"), [(True, 0.5), (False, 30 / 42)])
def test_domains_are_alike_or_by_size(uniform, share):
  blocks = [
    block
    for seed in range(200)
    for step in groups.sampled(EXAMPLES, 10, seed, uniform=uniform)
    for block in step
  ]
  found = np.mean([block.domain == 7 for block in blocks])
  # Five standard deviations.
  assert abs(found - share) < 5 * np.sqrt(share * (1 - share) / len(blocks))


def test_mixed_blocks():
  (first, *_) = groups.sampled(EXAMPLES, 20, 0, of_one_domain=False)
  (block,) = first
  assert set(DOMAINS[block.queries]) == {7, 9}
  assert (block.domain, len(block.controls)) == (-1, 0)
  assert len(set(block.queries)) == 20


@pytest.mark.parametrize("order", groups.ORDERS)
def test_each_query_is_evaluated_once(order):
  blocks = context.queries(EXAMPLES, 8, 0, order=order, num_controls=3)
  # A last block is filled up from the one before it.
  assert [len(block.queries) for block in blocks] == [8] * 6
  assert [block.num_new for block in blocks] == [8, 8, 8, 6, 8, 4]
  np.testing.assert_array_equal(blocks[3].queries[:2], blocks[2].queries[-2:])
  new = [block.queries[-block.num_new :] for block in blocks]
  every = np.concatenate(new)
  np.testing.assert_array_equal(
    np.sort(every), np.flatnonzero(~EXAMPLES.is_control)
  )
  labels = EXAMPLES.labels[every]
  changes = np.diff(labels[:30]) != 0
  assert (changes.sum() == 2) == (order == "sorted")
  for block in blocks:
    assert (DOMAINS[block.queries] == block.domain).all()
    assert EXAMPLES.is_control[block.controls].all()


def _model():
  return models.make(
    "mlp", num_classes=3, input_shape=(8,), num_layers=1, hidden_dim=16,
    norm="batch_norm",
  )  # fmt: skip


def test_a_domain_may_have_fewer_queries_than_asked_for():
  blocks = context.queries(EXAMPLES, 20, 0)
  assert [len(block.queries) for block in blocks] == [20, 20, 12]
  assert [block.num_new for block in blocks] == [20, 10, 12]


def test_a_journey():
  """Trained with controls; rows per order, size and domain."""
  options = {"batch_size": 5, "num_controls": 6, "blocks_per_step": 2}
  model = context.train(
    _model(), EXAMPLES, "cs_arm_bn", epochs=12, learning_rate=0.05, **options
  )
  compiled = loop.step._cache_size()
  again = context.train(
    _model(), EXAMPLES, "cs_arm_bn", epochs=1, learning_rate=0.02, **options
  )
  assert loop.step._cache_size() == compiled
  assert again is not model
  rows = context.accuracies(model, EXAMPLES, sizes=(4, 1), num_controls=6)
  assert [(row["order"], row["size"], row["domain"]) for row in rows] == [
    (order, size, domain)
    for order in ("mixed", "sorted")
    for size in (4, 1)
    for domain in (7, 9)
  ]
  assert {row["n"] for row in rows} == {30, 12}
  assert np.mean([row["accuracy"] for row in rows]) > 0.6


@pytest.mark.parametrize(
  ("changed", "said"),
  [
    ({"is_control": None}, "needs controls, and is_control"),
    ({"is_control": np.ones(66, bool)}, "domain 7 has controls alone"),
    ({"is_control": np.zeros(66, bool)}, "no controls in domains 7, 9"),
    ({"is_control": np.zeros(66)}, "float64; needed: booleans"),
    ({"domains": np.full(66, 0.5)}, "domains are float64; needed: integers"),
    ({name: [] for name in EXAMPLES._fields}, "inputs are empty"),
    ({"labels": np.zeros(65, int)}, r"labels has the shape \(65,\)"),
    ({"labels": EXAMPLES.labels + 1}, "from 1 to 3, and the model has 3"),
  ],
)
def test_bad_examples(changed, said):
  examples = EXAMPLES._replace(**changed)
  for function in (context.train, context.accuracies):
    with pytest.raises(errors.UserError, match=said):
      function(_model(), examples, "cs_arm_bn", num_controls=2)


@pytest.mark.parametrize(
  ("options", "said"),
  [
    ({"method": "arm_b"}, "Did you mean 'arm_bn'"),
    ({"batch_size": 0}, "batch_size=0"),
    ({"batch_size": 64}, "lower one of the two"),
    ({"num_controls": 0}, "num_controls=0"),
    ({"method": "ben(cumulative=1)"}, "cumulative=1"),
  ],
)
def test_bad_options(options, said):
  method = options.pop("method", "cs_arm_bn")
  with pytest.raises(errors.UserError, match=said):
    context.train(_model(), EXAMPLES, method, **options)


def test_sizes_are_a_sequence():
  for sizes in (8, ()):
    with pytest.raises(errors.UserError, match=r"sizes=.*a sequence of one"):
      context.accuracies(_model(), EXAMPLES, "arm_bn", sizes=sizes)


def test_too_few_queries_are_named_before_any_is_predicted():
  with pytest.raises(errors.UserError, match="'arm_bn', 1 queries and 0"):
    context.accuracies(_model(), EXAMPLES, "arm_bn", sizes=(8, 1))
