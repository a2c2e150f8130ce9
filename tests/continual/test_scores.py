"""Accuracies over tasks, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from normjax import continual, metrics
from normjax.metrics import task_accuracy
from normjax.nn.output import Output

# What is above the diagonal is not learned yet, and counts nowhere.
MATRIX = np.array([[0.9, 1.0, 1.0], [0.5, 0.8, 1.0], [0.6, 0.3, 0.7]])


def test_summaries():
  assert continual.average(MATRIX) == pytest.approx(1.6 / 3)
  # From the best so far: 0.9 to 0.6, and 0.8 to 0.3.
  assert continual.forgetting(MATRIX) == pytest.approx((0.3 + 0.5) / 2)
  assert continual.backward_transfer(MATRIX) == pytest.approx(-0.4)
  better = np.array([[0.5, 0.0], [0.9, 0.7]])
  assert continual.forgetting(better) == 0
  assert continual.backward_transfer(better) == pytest.approx(0.4)
  for summary in (continual.forgetting, continual.backward_transfer):
    assert np.isnan(summary(np.array([[0.5]])))


def test_table():
  found = continual.Accuracies(MATRIX, MATRIX + 1)
  rows = found.table()
  assert [(row["after_task"], row["of_task"]) for row in rows] == [
    (0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2),
  ]  # fmt: skip
  assert rows[4]["class_incremental"] == 0.3
  assert rows[4]["task_incremental"] == 1.3
  summary = found.summary()
  assert summary["task_incremental/average"] == pytest.approx(1 + 1.6 / 3)
  assert len(summary) == 6


def test_a_known_task_leaves_its_classes():
  logits = jnp.asarray([[0.1, 0.2, 5.0, 4.0], [3.0, 0.0, 1.0, 2.0]])
  labels = jnp.asarray([1, 2])
  np.testing.assert_array_equal(
    task_accuracy.hits(logits, labels, 2), [True, False]
  )
  np.testing.assert_array_equal(task_accuracy.hits(logits, labels, 4), [0, 0])
  metric = metrics.get("task_accuracy(classes_per_task=2)")
  values = metric.of(Output(logits), {"targets": labels})
  np.testing.assert_array_equal(values, [True, False])
