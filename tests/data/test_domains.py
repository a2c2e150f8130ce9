"""Domains of a table: the bins of a column."""

import dataclasses
import types

import numpy as np
import pytest

from normjax import data, errors
from normjax.data import dataset, domains


def test_bins_are_quantiles_of_what_is_trained_on():
  made = data.make("wine", domain_column="alcohol", domain_bins=3)
  inputs, _ = made.train
  edges = np.quantile(inputs[:, 0].astype(np.float64), [1 / 3, 2 / 3])
  assert made.num_domains == 3
  np.testing.assert_array_equal(made.domains.edges, edges)
  batch = made.train_batch(0, 0, 16)
  plain = data.make("wine").train_batch(0, 0, 16)
  values = plain["inputs"][:, 0] * made.deviation[0] + made.mean[0]
  expected = (values[:, None] >= edges).sum(1)
  np.testing.assert_array_equal(batch["domain"], expected)
  assert batch["domain"].dtype == np.int32
  # Nothing else is another: the column stays an input.
  for part, values in plain.items():
    np.testing.assert_array_equal(batch[part], values)
  sizes = np.zeros(3, int)
  for evaluated in made.evaluation_batches(16):
    assert len(evaluated["domain"]) == 16
    real = evaluated["weight"] > 0
    sizes += np.bincount(evaluated["domain"][real], minlength=3)
  assert sizes.sum() == len(made.validation[1])


def test_each_fold_has_its_edges_and_says_so():
  made = data.make("diabetes", domain_column="bmi", domain_bins=2)
  folds = [made.for_seed(seed) for seed in range(5)]
  assert len({fold.domains.edges for fold in folds}) > 1
  for fold in folds:
    said = fold.fold["domains"]
    assert said["column"] == "bmi"
    assert tuple(said["edges"]) == fold.domains.edges
    assert sum(said["train_sizes"]) == len(fold.train[1])
  assert "domains" not in made.provenance
  assert made.on_split("tuning").num_domains == 2


def test_edges_are_in_the_columns_unit():
  made = data.make(
    "iris", domain_column="petal width (cm)", domain_edges=(0.8, 1.75)
  )
  ids = made.domains.of(np.float32([[0, 0, 0, v] for v in (0.7, 0.8, 1.8)]))
  np.testing.assert_array_equal(ids, [0, 1, 2])
  assert data.make("iris").num_domains == 0
  assert "domain" not in data.make("iris").train_batch(0, 0, 4)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"domain_column": "alcool"}, "domain_column='alcool'.*mean 'alcohol'"),
    (
      {"domain_column": "ash", "domain_bins": 1},
      "domain_bins=1; allowed: an int >= 2",
    ),
    (
      {"domain_column": "ash", "domain_edges": (2, 1)},
      "allowed: ascending numbers",
    ),
    (
      {"domain_column": "ash", "domain_edges": (99.0,)},
      r"'ash' without an example.*\[106, 0\]. Its values go from 1.\d+ to 3",
    ),
    ({"domain_edges": (1.0,)}, r"allowed: \(\) without a domain_column"),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(errors.UserError, match=message):
    data.make("wine", **options)


def test_ties_that_leave_a_domain_empty_are_told():
  asked = domains.Asked("sex", 3, ())
  inputs = np.float32([[1], [1], [1], [2], [2], [2]])
  with pytest.raises(errors.UserError, match="2 different ones; allowed"):
    asked.found("own", lambda: ["sex"], inputs)


@pytest.mark.parametrize(
  ("ids", "message"),
  [
    ([0, 1, 2, 3], "has ids from 0 to 3; allowed: 0 to 2"),
    ([0, -1, 2, 1], "has ids from -1 to 2; allowed: 0 to 2"),
    ([0.0, 1.0, 2.0, 1.0], r"is float64\[4\]; needed: an integer id"),
    ([0, 1, 2], r"is int64\[3\]; needed: an integer id of each"),
  ],
)
def test_a_batch_with_other_domains_is_refused_on_the_host(ids, message):
  made = types.SimpleNamespace(name="own", num_domains=3)
  batch = {
    "inputs": np.zeros((4, 2)),
    "targets": np.zeros(4, int),
    "weight": np.ones(4),
    "domain": np.asarray(ids),
  }
  with pytest.raises(errors.DataError, match=f"data 'own'.*{message}"):
    dataset.check_batch(made, batch, 4)
  dataset.check_batch(made, batch | {"domain": np.array([0, 1, 2, 0])}, 4)


def test_equal_by_value():
  one = domains.Domains("a", 0, (1.0,))
  assert one == dataclasses.replace(one)
  assert one.number == 2
