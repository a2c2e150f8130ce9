"""What a metric is: an exact mean over examples, and what becomes of it.

Importing this module must not import jax: `normjax list` reads the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from normjax import errors
from normjax.metrics.activations import Bound, OfActivations

if TYPE_CHECKING:
  from normjax.nn.output import Output
  from normjax.types import Array

# "inputs", "targets" and "weight", arrays as data sets give them.
Batch = Mapping[str, Any]


def _itself(mean: Any, dataset: Any) -> float:
  del dataset
  return float(mean)


class Metric(NamedTuple):
  """A number of an evaluation.

      value = finish(m),  m = sum_i w_i v_i / sum_i w_i

  m does not depend on how the examples are split into batches and devices.
  What is no mean itself is a function of one: a perplexity is exp(m), a ratio
  is m_0 / m_1 of values (b, 2), a calibration error is read off the bins of
  values (b, bins, 3).

  Attributes:
    name: in `result.json`, after "eval/".
    of: what m is the mean of: a function (output, batch) -> v, as `weight`
      with any further axes; or the name of a mean of the objective; or a sum
      over activations inside the model, see `OfActivations`.
    finish: (m, data set) -> number; m is a NumPy array of float64. m itself
      where v has no further axes. Of activations m is the sum.
    targets: the kind of targets that it reads; empty for any.
    needs: the attribute of the data set that must not be None, if any.
  """

  name: str
  of: str | Callable[[Output, Batch], Array] | OfActivations | Bound
  finish: Callable[[Any, Any], float] = _itself
  targets: str = ""
  needs: str = ""

  def applies_to(self, dataset: Any) -> bool:
    """Whether the data set has what this needs."""
    return not self.needs or getattr(dataset, self.needs, None) is not None

  def check(self, dataset: Any) -> None:
    """Raises UserError where the data set does not fit."""
    if self.targets and self.targets != dataset.targets:
      raise errors.UserError(
        f"{self.name!r} reads targets that are {self.targets}; those of data"
        f" {dataset.name!r} are {dataset.targets}."
      )
    if not self.applies_to(dataset):
      raise errors.UserError(
        f"{self.name!r} needs {self.needs}, which data {dataset.name!r} does"
        " not have."
      )

  def on(self, dataset: Any) -> Metric:
    """The same, knowing what it needs of the data set.

    Raises:
      UserError: the data set does not fit.
    """
    self.check(dataset)
    if isinstance(self.of, OfActivations):
      bound = Bound(self.of, self.of.constants(dataset))
      return self._replace(of=bound)
    return self

  @property
  def unbound(self) -> Metric:
    """The same as it is named, knowing no data set."""
    return self._replace(of=self.of.of) if isinstance(self.of, Bound) else self

  @property
  def activations(self) -> str:
    """The pattern of the activations that it reads; "" for none."""
    return self.of.of.pattern if isinstance(self.of, Bound) else ""

  def sums(self, output: Output, batch: Batch) -> dict[str, Array]:
    """The sum of w_i v_i by name; empty where `of` is another's mean.

    Raises:
      UserError: the function fails, or its values are not by example.
    """
    if isinstance(self.of, str):
      return {}
    import jax.numpy as jnp  # Late: the table is light.

    weight = batch["weight"]
    key = f"evaluate.metrics: {self.name!r}"
    if isinstance(self.of, OfActivations):
      raise errors.UserError(f"{key} knows no data set: `on` tells it of one.")
    if isinstance(self.of, Bound):
      return {self.name: self._sum_of_activations(self.of, output, batch, key)}
    try:
      values = jnp.asarray(self.of(output, batch))
    except errors.UserError as error:
      raise type(error)(f"{key}: {error}") from error
    except Exception as error:
      raise errors.UserError(
        f"{key} failed: {type(error).__name__}: {error}. It is called with"
        " (output, batch): output.logits is what the model predicts, the batch"
        f" has {', '.join(batch)}."
      ) from error
    further = values.shape[weight.ndim :]
    if values.shape[: weight.ndim] != weight.shape:
      raise errors.UserError(
        f"{key} gives values of shape {values.shape}; allowed: one value per"
        f" example, shape {weight.shape}, or that with further axes."
      )
    if further and self.finish is _itself:
      raise errors.UserError(
        f"{key} gives an array of shape {further} per example and is no"
        " Metric with a `finish`, which makes one number of their mean."
      )
    weight = weight.reshape(weight.shape + (1,) * len(further))
    # Padding counts for nothing, also where its value is not finite.
    summands = jnp.where(weight > 0, weight * values.astype(jnp.float32), 0.0)
    examples = tuple(range(batch["weight"].ndim))
    return {self.name: jnp.sum(summands, axis=examples)}

  def _sum_of_activations(
    self, bound: Bound, output: Output, batch: Batch, key: str
  ) -> Array:
    chosen = bound.chosen(output.features)
    if not chosen:
      raise errors.UserError(
        f"{key} is of activations {bound.of.pattern!r}; the model has none."
      )
    try:
      return bound.of.sums(chosen, batch, bound.constants)
    except errors.UserError as error:
      raise type(error)(f"{key}: {error}") from error

  def value(self, mean: Any, dataset: Any) -> float:
    """The number of an evaluation, from the mean of v, or the sum.

    Raises:
      UserError: `finish` fails, or gives no number.
    """
    try:
      return float(self.finish(mean, dataset))
    except errors.UserError as error:
      raise type(error)(f"evaluate.metrics: {self.name!r}: {error}") from error
    except Exception as error:
      raise errors.UserError(
        f"evaluate.metrics: {self.name!r} failed to finish the mean {mean}:"
        f" {type(error).__name__}: {error}"
      ) from error
