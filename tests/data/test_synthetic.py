import numpy as np
import pytest

from normjax import data, errors


def _loss(logits, labels):
  logits = logits - logits.max(-1, keepdims=True)
  log_normalizer = np.log(np.exp(logits).sum(-1))
  return log_normalizer - logits[np.arange(len(labels)), labels]


def test_the_teacher_has_the_stated_loss_and_no_step_away_is_better():
  dataset = data.make("synthetic", num_validation=20_000)
  inputs, labels = dataset.validation
  teacher = dataset.teacher_io
  losses = _loss(inputs @ teacher, labels)
  assert losses.mean() == pytest.approx(dataset.optimum_loss, rel=1e-12)
  generator = np.random.default_rng(0)
  for _ in range(5):
    step = generator.normal(size=teacher.shape) * np.abs(teacher).mean() * 0.3
    other = _loss(inputs @ (teacher + step), labels)
    difference = other - losses
    error = difference.std() / np.sqrt(len(labels))
    assert difference.mean() > 3 * error


def test_features_and_logits_have_the_stated_scale():
  dataset = data.make("synthetic", condition_number=50.0, logit_scale=2.0)
  batch = dataset.train_batch(0, 0, 50_000)
  spread = batch["inputs"].std(0)
  # A standard deviation of n draws has relative error 1/sqrt(2n) = 0.32%.
  assert (spread[0] / spread[-1]) ** 2 == pytest.approx(50, rel=0.05)
  logits = batch["inputs"] @ dataset.teacher_io
  assert np.sqrt(np.mean(logits**2)) == pytest.approx(2.0, rel=0.02)


def test_each_split_is_a_draw_of_its_own():
  dataset = data.make("synthetic", num_validation=50, task_seed=3)
  parts = [dataset.on_split(s) for s in ("train", "tuning", "test")]
  rows = np.concatenate([part.validation[0] for part in (dataset, *parts)])
  assert len(np.unique(rows, axis=0)) == 4 * 50
  inputs, labels = parts[1].validation
  assert _loss(inputs @ dataset.teacher_io, labels).mean() == pytest.approx(
    parts[1].optimum_loss, rel=1e-12
  )
  again = data.make("synthetic", num_validation=50, task_seed=3)
  np.testing.assert_array_equal(again.on_split("tuning").validation[0], inputs)


def test_training_examples_do_not_repeat():
  dataset = data.make("synthetic")
  rows = np.concatenate(
    [dataset.train_batch(0, step, 64)["inputs"] for step in range(20)]
  )
  assert len(np.unique(rows, axis=0)) == 20 * 64


@pytest.mark.parametrize(
  "options",
  [
    {"num_classes": 1},
    {"condition_number": 0.5},
    {"logit_scale": 0.0},
    {"num_features": 0},
  ],
)
def test_options_out_of_range(options):
  with pytest.raises(errors.UserError, match=next(iter(options))):
    data.make("synthetic", **options)
