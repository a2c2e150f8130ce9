"""Parts that a user may have, named as "tests.objectives.toys:…"."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from normjax.data import dataset
from normjax.metrics import Metric
from normjax.nn.output import Output
from normjax.objectives import Objective

FEATURES, VALUES = 4, 2


@dataclasses.dataclass(frozen=True)
class Line:
  """Values that are linear in Gaussian features, without noise."""

  teacher_io: np.ndarray
  validation: np.ndarray
  name: str = "line"
  reads: str = "features"
  targets: str = "values"
  bytes_per_token: None = None
  provenance: dict = dataclasses.field(default_factory=dict)

  @property
  def model_options(self):
    return {"num_classes": VALUES, "input_shape": (FEATURES,)}

  def _batch(self, inputs, weight):
    return {
      "inputs": inputs.astype(np.float32),
      "targets": (inputs @ self.teacher_io).astype(np.float32),
      "weight": weight.astype(np.float32),
    }

  def train_batch(self, seed, step, batch_size):
    generator = np.random.default_rng((seed, step))
    inputs = generator.normal(size=(batch_size, FEATURES))
    return self._batch(inputs, np.ones(batch_size))

  def evaluation_batches(self, batch_size, num_batches=None):
    for index, weight in dataset.evaluation_slices(
      len(self.validation), batch_size, num_batches
    ):
      yield self._batch(self.validation[index], weight)


def line() -> Line:
  generator = np.random.default_rng(0)
  return Line(
    generator.normal(size=(FEATURES, VALUES)),
    generator.normal(size=(30, FEATURES)),
  )


def pairs() -> Line:
  """Its targets are of a kind that no objective of ours reads."""
  return dataclasses.replace(line(), targets="pairs")


def squared_length(output, batch):
  """A metric: one value per example."""
  del batch
  return jnp.sum(jnp.square(output.logits), axis=-1)


def by_output(output, batch):
  """No metric: two values per example, and nothing makes one of their mean."""
  del batch
  return output.logits


def one_number(output, batch):
  """No metric: the examples are gone."""
  del batch
  return jnp.mean(output.logits)


def broken(output, batch):
  """No metric: it reads what is not there."""
  return batch["labels"]


def huber(delta: float = 1.0) -> Objective:
  """An objective with a traced option, and a mean that is a metric."""

  def sums(output, batch):
    error = jnp.abs(output.logits - batch["targets"])
    inside = error <= delta
    loss = jnp.where(inside, error**2 / 2, delta * (error - delta / 2))

    def total(values):
      return jnp.sum(batch["weight"] * jnp.mean(values, axis=-1))

    return {
      "objective": total(loss),
      "loss": total(loss),
      "outliers": total(~inside),
    }

  return Objective("huber", "values", ("loss", "outliers"), sums)


def undeclared() -> Objective:
  """It does not give what it declares."""
  return huber()._replace(name="undeclared", means=("loss", "accuracy"))


class AveragedState(NamedTuple):
  inner: optax.OptState
  average: optax.Params

  def evaluation_params(self, params):
    del params
    return self.average


def averaged_sgd(learning_rate, decay: float = 0.5):
  """SGD that is evaluated at an exponential average of the weights."""
  inner = optax.sgd(learning_rate)

  def init(params):
    return AveragedState(inner.init(params), jax.tree.map(jnp.copy, params))

  def update(updates, state, params):
    updates, inner_state = inner.update(updates, state.inner, params)
    average = optax.incremental_update(
      optax.apply_updates(params, updates), state.average, 1 - decay
    )
    return updates, AveragedState(inner_state, average)

  return optax.GradientTransformation(init, update)


class Routed(nnx.Module):
  """A model that returns more than logits."""

  reads: ClassVar[frozenset[str]] = frozenset({"features"})

  def __init__(self, num_classes, input_shape, *, norm, compute_dtype, rngs):
    del norm, compute_dtype
    self.linear = nnx.Linear(*input_shape, num_classes, rngs=rngs)

  def __call__(self, x, *, train=True, key=None):
    hidden = self.linear(x)
    return Output(
      hidden,
      auxiliary_losses={"imbalance": 0.1 * jnp.mean(jnp.square(hidden))},
      features={"twice": 2 * hidden},
    )


def twice_squared(output, batch):
  """A metric that reads the model's features."""
  del batch
  return jnp.sum(jnp.square(output.features["twice"]), axis=-1)


def step(output, batch):
  """A metric that is called as a key of every row."""
  del output
  return batch["weight"]


of_nothing = Metric("of_nothing", of="acuracy")


# A metric that is called as the model's auxiliary loss.
imbalance = squared_length
