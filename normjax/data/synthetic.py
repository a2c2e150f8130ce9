"""Synthetic classification whose best loss is known."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from normjax import rng, validate
from normjax.data import dataset, splits


@dataclasses.dataclass(frozen=True)
class SoftmaxTeacher:
  """Labels drawn from a linear softmax model of Gaussian features.

      x_i ~ N(0, diag(lambda)),  lambda from 1 to 1 / condition_number
      y ~ softmax(W^T x),  W columns scaled so that the logits have rms
      `logit_scale`

  No model has a lower expected loss than the teacher, whose kernel is W. The
  training examples never repeat.

  Attributes:
    teacher_io: W, (i, o), float64.
    deviation_i: sqrt(lambda).
    optimum_loss: the teacher's mean loss on the validation examples, nats.
    validation: features and labels.
    provenance: the options.
    task_seed: draws the examples of all splits.
  """

  teacher_io: np.ndarray
  deviation_i: np.ndarray
  optimum_loss: float
  validation: tuple[np.ndarray, np.ndarray]
  provenance: Mapping[str, Any]
  task_seed: int = 0
  name: str = "synthetic"
  reads: str = "features"
  targets: str = "classes"
  bytes_per_token: None = None

  @property
  def model_options(self) -> dict[str, Any]:
    """What a model of these examples needs to know."""
    inputs, classes = self.teacher_io.shape
    return {"num_classes": classes, "input_shape": (inputs,)}

  def on_split(self, split: str) -> "SoftmaxTeacher":
    """The same, evaluated on as many examples of another draw.

    Raises:
      UserError: no such split.
    """
    splits.chosen(self.name, split, dict.fromkeys(splits.NAMES, True))
    if split == splits.VALIDATION:
      return self
    generator = np.random.default_rng(rng.host_seed(self.task_seed, split))
    size = len(self.validation[1])
    drawn = _draw(self.teacher_io, self.deviation_i, size, generator)
    return dataclasses.replace(
      self, validation=drawn, optimum_loss=_mean_loss(self.teacher_io, *drawn)
    )

  def train_batch(self, seed: int, step: int, batch_size: int) -> dataset.Batch:
    """Batch number `step`: a pure function of the arguments."""
    generator = np.random.default_rng((rng.host_seed(seed, "data"), step))
    inputs, labels = _draw(
      self.teacher_io, self.deviation_i, batch_size, generator
    )
    return _batch(inputs, labels, np.ones(batch_size, np.float32))

  def evaluation_batches(
    self, batch_size: int, num_batches: int | None = None
  ) -> Iterator[dataset.Batch]:
    """Validation examples, in one fixed shuffled order."""
    inputs, labels = self.validation
    for index, weight in dataset.evaluation_slices(
      len(labels), batch_size, num_batches
    ):
      yield _batch(inputs[index], labels[index], weight)


def _batch(inputs, labels, weight) -> dataset.Batch:
  return {
    "inputs": inputs.astype(np.float32),
    "targets": labels.astype(np.int32),
    "weight": weight,
  }


def _log_probabilities(teacher_io, inputs_bi) -> np.ndarray:
  logits = inputs_bi @ teacher_io
  logits -= logits.max(-1, keepdims=True)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def _mean_loss(teacher_io, inputs, labels) -> float:
  chosen = _log_probabilities(teacher_io, inputs)[
    np.arange(len(labels)), labels
  ]
  return float(-chosen.mean())


def _draw(teacher_io, deviation_i, size, generator):
  inputs = generator.normal(size=(size, len(deviation_i))) * deviation_i
  # The largest of log-probabilities plus Gumbel noise is a draw from them.
  scores = _log_probabilities(teacher_io, inputs)
  scores = scores + generator.gumbel(size=scores.shape)
  return inputs, scores.argmax(-1)


def synthetic(
  num_features: int = 32,
  num_classes: int = 10,
  condition_number: float = 100.0,
  logit_scale: float = 3.0,
  num_validation: int = 4096,
  task_seed: int = 0,
) -> SoftmaxTeacher:
  """A linear softmax teacher on features of unequal scale.

  Args:
    num_features: i.
    num_classes: o.
    condition_number: of the features' covariance.
    logit_scale: rms of the teacher's logits; more is less label noise.
    num_validation: examples to evaluate on.
    task_seed: draws the teacher and the examples to evaluate on.

  Raises:
    UserError: an option out of range.
  """
  for option, value, least in (
    ("num_features", num_features, 1),
    ("num_classes", num_classes, 2),
    ("num_validation", num_validation, 1),
    ("condition_number", condition_number, 1),
  ):
    validate.number("synthetic", option, value, least=least)
  validate.positive("synthetic", logit_scale=logit_scale)
  generator = np.random.default_rng(rng.host_seed(task_seed, "task"))
  deviation = np.geomspace(1.0, condition_number**-0.5, num_features)
  # The logit of class o has variance sum_i (W_io deviation_i)^2.
  directions = generator.normal(size=(num_features, num_classes))
  teacher = directions / np.linalg.norm(directions, axis=0) * logit_scale
  teacher /= deviation[:, None]
  inputs, labels = _draw(teacher, deviation, num_validation, generator)
  optimum_loss = _mean_loss(teacher, inputs, labels)
  return SoftmaxTeacher(
    teacher_io=teacher,
    deviation_i=deviation,
    optimum_loss=optimum_loss,
    validation=(inputs, labels),
    task_seed=task_seed,
    provenance={
      "sizes": {"validation": num_validation},
      "task_seed": task_seed,
      "optimum_loss": optimum_loss,
    },
  )
