"""Metrics against NumPy, and that no split into batches matters."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from normjax import errors, metrics
from normjax.nn.output import Output

GENERATOR = np.random.default_rng(0)
LOGITS = 3 * GENERATOR.normal(size=(40, 8))
TARGETS = GENERATOR.integers(0, 8, size=40)
WEIGHT = np.ones(40)
WEIGHT[[3, 17]] = 0.0
WEIGHT[5] = 0.5
HIDDEN = GENERATOR.normal(size=(40, 3)) * (3, 2, 1)
PROBABILITY = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)


class _DATA:
  """Of tokens."""

  name, reads, targets = "data", "tokens", "classes"


def _perplexity():
  nll = -np.log(PROBABILITY[np.arange(40), TARGETS])
  return np.exp((WEIGHT * nll).sum() / WEIGHT.sum())


def _top5_accuracy():
  best = np.argsort(-LOGITS, axis=-1)[:, :5]
  hits = (best == TARGETS[:, None]).any(-1)
  return (WEIGHT * hits).sum() / WEIGHT.sum()


def _calibration_error():
  confidence = PROBABILITY.max(-1)
  hit = LOGITS.argmax(-1) == TARGETS
  total = 0.0
  for low in np.arange(15) / 15:
    inside = WEIGHT * ((confidence > low) & (confidence <= low + 1 / 15))
    if inside.sum():
      accuracy = (inside * hit).sum() / inside.sum()
      mean = (inside * confidence).sum() / inside.sum()
      total += inside.sum() / WEIGHT.sum() * abs(accuracy - mean)
  return total


def _recall_at_k():
  """The gallery are the classes, k is 1 unless said."""
  return (WEIGHT * (LOGITS.argmax(-1) == TARGETS)).sum() / WEIGHT.sum()


def _hubness_skewness():
  found = np.bincount(LOGITS.argmax(-1), WEIGHT, minlength=8)
  return stats.skew(found)


def _task_accuracy():
  """Two classes per task unless said: the other one of the pair is lower."""
  example = np.arange(40)
  hits = LOGITS[example, TARGETS] > LOGITS[example, TARGETS ^ 1]
  return (WEIGHT * hits).sum() / WEIGHT.sum()


def _spectrum():
  """Of the covariance over the tokens that count, as often as they do."""
  eigenvalues = np.linalg.eigvalsh(np.cov(HIDDEN.T, aweights=WEIGHT))
  return eigenvalues / eigenvalues.sum()


def _ffn_hard_rank():
  return 1 / (_spectrum() ** 2).sum()


def _ffn_soft_rank():
  return np.exp(-(_spectrum() * np.log(_spectrum())).sum())


REFERENCES = {
  "calibration_error": _calibration_error,
  "ffn_hard_rank": _ffn_hard_rank,
  "ffn_soft_rank": _ffn_soft_rank,
  "hubness_skewness": _hubness_skewness,
  "perplexity": _perplexity,
  "recall_at_k": _recall_at_k,
  "task_accuracy": _task_accuracy,
  "top5_accuracy": _top5_accuracy,
}


def _measured(metric, logits, splits):
  metric = metric.on(_DATA)
  sums = []
  for part in np.split(np.arange(40), splits):
    batch = {
      "targets": jnp.asarray(TARGETS[part]),
      "weight": jnp.asarray(WEIGHT[part], jnp.float32),
    }
    # In the padding there may be anything.
    hidden = np.where(np.isnan(logits[part][:, :1]), np.nan, HIDDEN[part])
    features = {"activation/layers/0/feed_forward/post/0": jnp.asarray(hidden)}
    output = Output(jnp.asarray(logits[part], jnp.float32), features=features)
    sums.append(np.asarray(metric.sums(output, batch)[metric.name], np.float64))
  total = sum(sums)
  return metric.finish(
    total if metric.activations else total / WEIGHT.sum(), None
  )


# Forty examples are few for some.
OPTIONS = dict.fromkeys(
  ("ffn_hard_rank", "ffn_soft_rank"), "(tokens_per_feature=2)"
)


@pytest.mark.parametrize("name", metrics.names())
def test_it_is_the_reference_however_it_is_split(name):
  metric = metrics.get(name + OPTIONS.get(name, ""))
  assert metric.name == name + OPTIONS.get(name, "")
  want = REFERENCES[name]()
  for splits in ([], [10, 20, 30]):
    # Forty float32 terms, each good to a few 2**-24.
    assert _measured(metric, LOGITS, splits) == pytest.approx(want, rel=1e-5)
  spoiled = LOGITS.copy()
  spoiled[[3, 17]] = np.nan
  assert _measured(metric, spoiled, []) == pytest.approx(want, rel=1e-5)


def test_options_are_in_the_name():
  """Of several k each is a column."""
  best = np.argsort(-LOGITS, axis=-1)[:, :3]
  recall = metrics.get("recall_at_k(k=3)")
  assert recall.name == "recall_at_k(k=3)"
  want = (WEIGHT * (best == TARGETS[:, None]).any(-1)).sum() / WEIGHT.sum()
  assert _measured(recall, LOGITS, [20]) == pytest.approx(want, rel=1e-6)
  hubness = metrics.get("hubness_skewness(k=3)")
  counts = (WEIGHT[:, None, None] * (best[..., None] == np.arange(8))).sum(
    (0, 1)
  )
  assert _measured(hubness, LOGITS, [20]) == pytest.approx(
    stats.skew(counts), rel=1e-4
  )
  # All classes are among eight.
  assert _measured(metrics.get("hubness_skewness(k=8)"), LOGITS, []) == 0


@pytest.mark.parametrize("name", ["recall_at_k", "hubness_skewness"])
@pytest.mark.parametrize(("k", "allowed"), [(0, ">= 1"), (9, "from 1 to 8")])
def test_a_k_that_cannot_be_is_named(name, k, allowed):
  with pytest.raises(errors.UserError, match=f"k={k}; allowed: .*{allowed}"):
    _measured(metrics.get(f"{name}(k={k})"), LOGITS, [])


def test_what_knows_nothing_is_not_among_five():
  metric = metrics.get("top5_accuracy")
  for constant in (np.zeros((40, 8)), np.full((40, 8), np.nan)):
    assert _measured(metric, constant, []) == 0.0


def test_a_perplexity_beyond_all_numbers_is_infinite():
  assert metrics.get("perplexity").finish(np.float64(1e4), None) == np.inf


@pytest.mark.parametrize("finish", [lambda m, data: m / 0, lambda m, data: "x"])
def test_a_finish_that_fails_is_named(finish):
  metric = metrics.Metric("gap", "loss", finish)
  with pytest.raises(errors.UserError, match="metrics: 'gap' failed .* 3.5: "):
    metric.value(3.5, None)


def test_a_function_from_outside_is_a_metric_of_its_name():
  metric = metrics.get("tests.objectives.toys:squared_length")
  assert metric.name == "squared_length"
  want = (WEIGHT * (LOGITS**2).sum(-1)).sum() / WEIGHT.sum()
  assert _measured(metric, LOGITS, [20]) == pytest.approx(want, rel=1e-6)


def test_the_table_is_light():
  """`normjax list` reads it without jax."""
  code = "import sys, normjax.metrics; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_rank_by_few_tokens_is_refused():
  with pytest.raises(
    errors.UserError, match="3 features by 38 tokens; needed: 60"
  ):
    _measured(metrics.get("ffn_hard_rank"), LOGITS, [])
  assert metrics.get("ffn_hard_rank") == metrics.get("ffn_hard_rank")
  with pytest.raises(errors.UserError, match=r"site=\['pre'\]; allowed"):
    metrics.get("ffn_hard_rank(site=['pre'])")
