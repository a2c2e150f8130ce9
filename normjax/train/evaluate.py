"""Evaluation: exact weighted means over a fixed set of batches."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from normjax import errors, objectives, stopping
from normjax.data import corruptions
from normjax.data import dataset as dataset_lib
from normjax.metrics import Metric
from normjax.metrics.activations import Bound
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


# Of a batch for each of several runs: what fetches their sums to the host.
# None stands for the batch of a run whose data is through: what is given for
# it is left out.
SumsOf = Callable[[Sequence[Any]], Callable[[], Sequence[objectives.Sums]]]


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
  sums_of = _alone(program, state, hyper)
  return measure_each(
    sums_of, program.metrics, [dataset], options, corrupted=corrupted
  )[0]


def measure_each(
  sums_of: SumsOf,
  metrics: Sequence[Metric],
  datasets: Sequence[Any],
  options: Any,
  *,
  corrupted: bool,
) -> list[Measured]:
  """As `measure`, for several runs of one program at once.

  Args:
    sums_of: see `SumsOf`.
    metrics: of the program.
    datasets: of each run.
    options: see `measure`.
    corrupted: see `measure`.
  """
  sizes = {
    "batch_size": options.batch_size,
    "num_batches": options.num_batches,
  }
  given = sums_of, metrics
  measured = evaluate_each(*given, datasets, **sizes)
  if not (corrupted and options.corruptions):
    return measured
  clean = [each.means["accuracy"] for each in measured]
  more = _corrupted_each(*given, datasets, options.corruptions, clean, **sizes)
  return [
    each._replace(means=each.means | added)
    for each, added in zip(measured, more, strict=True)
  ]


def evaluate(
  program: Program,
  state: State,
  dataset: Any,
  hyper: Hyper,
  *,
  batch_size: int,
  num_batches: int,
) -> Measured:
  """Means over the examples of a split, and the metrics that they give.

  Batches are summed in float32 on the device and over batches exactly on
  the host, so that the split into batches does not matter beyond float32.

  Args:
    program: the compiled functions.
    state: see `step.evaluation_step`.
    dataset: gives `evaluation_batches`; see `build.evaluation_dataset`.
    hyper: the run's scalars.
    batch_size: the program's.
    num_batches: at most so many; 0 takes all.

  Returns:
    The objective's means, then the program's metrics.

  Raises:
    Stopped: a signal came.
    DataError: no example counts.
  """
  return evaluate_each(
    _alone(program, state, hyper),
    program.metrics,
    [dataset],
    batch_size=batch_size,
    num_batches=num_batches,
  )[0]


def _alone(program: Program, state: State, hyper: Hyper) -> SumsOf:
  """The sums of the only run."""

  def sums_of(batches):
    batch = program.layout.put_batch(batches[0])
    sums = program.evaluate(state, batch, hyper)
    if program.layout.one_at_a_time:
      jax.block_until_ready(sums)
    return lambda: [jax.device_get(sums)]

  return sums_of


def evaluate_each(
  sums_of: SumsOf,
  metrics: Sequence[Metric],
  datasets: Sequence[Any],
  *,
  batch_size: int,
  num_batches: int,
) -> list[Measured]:
  """As `evaluate`, for several runs of one program at once.

  Arguments as of `measure_each` and `evaluate`.
  """
  started = []
  several = {id(dataset): dataset for dataset in datasets}
  for drawn in itertools.zip_longest(
    *(
      dataset.evaluation_batches(batch_size, num_batches or None)
      for dataset in several.values()
    )
  ):
    if stopping.asked():
      raise Stopped
    for dataset, batch in zip(several.values(), drawn, strict=True):
      if batch is not None:
        dataset_lib.check_batch(dataset, batch, batch_size)
    at = dict(zip(several, drawn, strict=True))
    batches = [at[id(dataset)] for dataset in datasets]
    is_there = [batch is not None for batch in batches]
    started.append((is_there, sums_of(batches)))
  sums: list[list[objectives.Sums]] = [[] for _ in datasets]
  for is_there, fetch in started:
    for own, counts, each in zip(sums, is_there, fetch(), strict=True):
      if counts:
        own.append(each)
  return [
    _finished(own, metrics, dataset)
    for own, dataset in zip(sums, datasets, strict=True)
  ]


def _finished(
  sums: Sequence[Mapping[str, Any]], metrics: Sequence[Metric], dataset: Any
) -> Measured:
  """What a run's sums over its batches give."""
  total = math.fsum(float(s[objectives.WEIGHT]) for s in sums)
  if not total:
    raise errors.DataError(
      f"data {dataset.name!r}: the weights of an evaluation's examples add up"
      " to 0; there is nothing to take a mean of."
    )
  large = [metric.name for metric in metrics if metric.activations]
  means = {
    name: _sum([s[name] for s in sums]) / total
    for name in sums[0]
    if name != objectives.WEIGHT and name not in large
  }
  # Of hundreds of thousands of numbers float64 alone must do.
  means |= {name: sum(np.float64(s[name]) for s in sums) for name in large}
  finished = {}
  for metric in metrics:
    mean = means[metric.of if isinstance(metric.of, str) else metric.name]
    finished[metric.name] = metric.value(mean, dataset)
  plain = {n: float(mean) for n, mean in means.items() if n not in finished}
  return Measured(plain | finished, total)


def check_examples(
  sums: Mapping[str, Any],
  metrics: Iterable[Metric],
  dataset: Any,
  options: Any,
) -> None:
  """Refuses metrics of activations that an evaluation has too few examples for.

  Args:
    sums: of `step.evaluation_step`, in shapes.
    metrics: of the program.
    dataset: as in `evaluate`.
    options: the block `evaluate` of a config.

  Raises:
    UserError: there are too few.
  """
  for metric in metrics:
    if not isinstance(metric.of, Bound):
      continue
    needed = metric.of.of.least(sums[metric.name].shape)
    found = sum(
      metric.of.of.counted(batch, metric.of.constants)
      for batch in dataset.evaluation_batches(
        options.batch_size, options.num_batches or None
      )
    )
    if found < needed:
      raise errors.UserError(
        f"evaluate.metrics: {metric.name!r} needs {needed:,} examples or more;"
        f" evaluate.num_batches={options.num_batches} of evaluate.batch_size="
        f"{options.batch_size} have {found:,.0f} that count for it. Allowed:"
        " more batches, or a smaller tokens_per_feature."
      )


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
    corrupted: names, as `corruptions.expand` takes them.
  """
  found = [*means, *(metric.name for metric in metrics)]
  kinds = corruptions.expand(corrupted)
  if kinds:
    found += [f"{metric}/{kind}" for kind in kinds for metric in CORRUPTED]
    found += corruptions.means(dict.fromkeys(kinds, 1.0), 1.0)
  return tuple(found)


def _corrupted_each(
  sums_of: SumsOf,
  metrics: Sequence[Metric],
  datasets: Sequence[Any],
  names: Iterable[str],
  clean_accuracies: Sequence[float],
  *,
  batch_size: int,
  num_batches: int,
) -> list[dict[str, float]]:
  """Means over the images of a split under corruptions, for each run.

  Args:
    sums_of: as in `measure_each`, like `metrics` and `datasets`.
    metrics: see `sums_of`.
    datasets: a set's `corrupted(name)` gives `evaluation_batches`.
    names: as `corruptions.expand` takes them.
    clean_accuracies: of the same states.
    batch_size: as in `evaluate`, like `num_batches`.
    num_batches: see `batch_size`.

  Returns:
    "accuracy/<kind>_<severity>" and "loss/..." of each, and the means of
    `corruptions.means`; nothing where there are no names.
  """
  found: list[dict[str, Mapping[str, float]]] = [{} for _ in datasets]
  for name in corruptions.expand(names):
    changed = {id(dataset): dataset.corrupted(name) for dataset in datasets}
    measured = evaluate_each(
      sums_of,
      metrics,
      [changed[id(dataset)] for dataset in datasets],
      batch_size=batch_size,
      num_batches=num_batches,
    )
    for own, each in zip(found, measured, strict=True):
      own[name] = each.means
  return [
    _of_corruptions(own, clean)
    for own, clean in zip(found, clean_accuracies, strict=True)
  ]


def _of_corruptions(
  results: Mapping[str, Mapping[str, float]], clean_accuracy: float
) -> dict[str, float]:
  """The metrics of a run by corruption, and their means."""
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
