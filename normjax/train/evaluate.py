"""Evaluation: exact weighted means over a fixed set of batches."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from normjax import errors, objectives, stopping
from normjax.data import corruptions
from normjax.data import dataset as dataset_lib
from normjax.metrics import Metric
from normjax.train.program import Program
from normjax.train.state import State
from normjax.types import Hyper

# What is kept of an evaluation on corrupted images.
CORRUPTED = ("accuracy", "loss")


class Measured(NamedTuple):
  """What an evaluation gave: numbers by name, and of how many examples.

  Attributes:
    means: of the objective, and the metrics.
    num_examples: the sum of the examples' weights; of tokens, where each is
      an example.
  """

  means: dict[str, float]
  num_examples: float


class Stopped(Exception):
  """A signal asked for the end before the last batch."""


def measure(
  program: Program,
  state: State,
  dataset: Any,
  hyper: Hyper,
  options: Any,
  *,
  corrupted: bool,
) -> Measured:
  """What the block `evaluate` of a config asks for.

  Args:
    program: as in `evaluate`, like `state`, `dataset` and `hyper`.
    state: see `program`.
    dataset: see `program`.
    hyper: see `program`.
    options: the block.
    corrupted: whether on corrupted images too, where the block names some.
  """
  sizes = {
    "batch_size": options.batch_size,
    "num_batches": options.num_batches,
  }
  given = program, state, dataset, hyper
  measured = evaluate(*given, **sizes)
  if not (corrupted and options.corruptions):
    return measured
  more = evaluate_corrupted(
    *given, options.corruptions, measured.means["accuracy"], **sizes
  )
  return measured._replace(means=measured.means | more)


def evaluate(
  program: Program,
  state: State,
  dataset: Any,
  hyper: Hyper,
  *,
  batch_size: int,
  num_batches: int,
) -> Measured:
  """Means over the validation examples, and the metrics that they give.

  Batches are summed in float32 on the device and over batches exactly on
  the host, so that the split into batches does not matter beyond float32.

  Args:
    program: the compiled functions.
    state: see `step.evaluation_step`.
    dataset: gives `evaluation_batches`.
    hyper: the run's scalars.
    batch_size: the program's.
    num_batches: at most so many; 0 takes all.

  Returns:
    The objective's means, then the program's metrics.

  Raises:
    Stopped: a signal came.
    DataError: no example counts.
  """
  batches = dataset.evaluation_batches(batch_size, num_batches or None)
  sums = []
  for batch in batches:
    if stopping.asked():
      raise Stopped
    dataset_lib.check_batch(dataset, batch, batch_size)
    batch = program.layout.put_batch(batch)
    sums.append(program.evaluate(state, batch, hyper))
  sums = jax.device_get(sums)
  total = math.fsum(float(s[objectives.WEIGHT]) for s in sums)
  if not total:
    raise errors.DataError(
      f"data {dataset.name!r}: the weights of an evaluation's examples add up"
      " to 0; there is nothing to take a mean of."
    )
  means = {
    name: _sum([s[name] for s in sums]) / total
    for name in sums[0]
    if name != objectives.WEIGHT
  }
  finished = {}
  for metric in program.metrics:
    mean = means[metric.of if isinstance(metric.of, str) else metric.name]
    finished[metric.name] = metric.value(mean, dataset)
  plain = {n: float(mean) for n, mean in means.items() if n not in finished}
  return Measured(plain | finished, total)


def mean_names(
  sums: Iterable[str], metrics: Iterable[Metric]
) -> tuple[str, ...]:
  """What is measured in training too: the objective's means, auxiliary losses.

  Args:
    sums: of `step.evaluation_step`.
    metrics: of the program.
  """
  others = {objectives.WEIGHT, *(metric.name for metric in metrics)}
  return tuple(name for name in sums if name not in others)


def names(
  means: Iterable[str],
  metrics: Iterable[Metric],
  corrupted: Iterable[str],
) -> tuple[str, ...]:
  """What the last evaluation of a run will give.

  Args:
    means: see `mean_names`.
    metrics: of the program.
    corrupted: as in `evaluate_corrupted`.
  """
  found = [*means, *(metric.name for metric in metrics)]
  kinds = corruptions.expand(corrupted)
  if kinds:
    found += [f"{metric}/{kind}" for kind in kinds for metric in CORRUPTED]
    found += corruptions.means(dict.fromkeys(kinds, 1.0), 1.0)
  return tuple(found)


def evaluate_corrupted(
  program: Program,
  state: State,
  dataset: Any,
  hyper: Hyper,
  names: Iterable[str],
  clean_accuracy: float,
  *,
  batch_size: int,
  num_batches: int,
) -> dict[str, float]:
  """Means over the validation images under corruptions.

  Args:
    program: as in `evaluate`, like `state`, `batch_size` and `num_batches`.
    state: see `program`.
    dataset: its `corrupted(name)` gives `evaluation_batches`.
    hyper: see `program`.
    names: as `corruptions.expand` takes them.
    clean_accuracy: of the same state.
    batch_size: see `program`.
    num_batches: see `program`.

  Returns:
    "accuracy/<kind>_<severity>" and "loss/..." of each, and the means of
    `corruptions.means`; nothing where there are no names.
  """
  results = {
    name: evaluate(
      program,
      state,
      dataset.corrupted(name),
      hyper,
      batch_size=batch_size,
      num_batches=num_batches,
    ).means
    for name in corruptions.expand(names)
  }
  if not results:
    return {}
  accuracy = {name: result["accuracy"] for name, result in results.items()}
  each = {
    f"{metric}/{name}": result[metric]
    for name, result in results.items()
    for metric in CORRUPTED
  }
  return each | corruptions.means(accuracy, clean_accuracy)


def _sum(parts: list[np.ndarray]) -> np.ndarray:
  """The sum, exact in float64, of each element over the batches."""
  stacked = np.stack(parts).astype(np.float64)
  columns = stacked.reshape(len(parts), -1).T.tolist()
  # fsum refuses to add infinities of both signs; a loss has one sign.
  sums = [
    math.fsum(column) if all(map(math.isfinite, column)) else math.nan
    for column in columns
  ]
  return np.asarray(sums).reshape(stacked.shape[1:])
