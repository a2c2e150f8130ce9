"""Evaluates what a run has learned: on which data, by which metrics."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from normjax import build, configure, errors, fields, objectives
from normjax.data import splits
from normjax.metrics import Metric
from normjax.metrics import get as get_metric
from normjax.train import reopen

# What `Run.evaluate` takes for a metric, and for data.
Asked = str | Metric | Callable[..., Any]


def dataset(
  config: configure.ConfigDict, own: Any, asked: Any, split: str
) -> Any:
  """The data set that is evaluated on.

  Args:
    config: of the run.
    own: data set of the run.
    asked: None, for `own`; a name; a mapping with "name"; or a data set.
    split: of it.

  Raises:
    UserError: data that the model was not made for, or that has no such split.
  """
  found = own if asked is None else asked
  if isinstance(asked, str):
    asked = {"name": asked}
  if isinstance(asked, Mapping):
    changes = {f"data.{key}": value for key, value in asked.items()}
    found = build.dataset(configure.override(config, changes))
  if found is not own:
    for key in ("reads", "targets", "model_options"):
      theirs, ours = getattr(found, key, None), getattr(own, key)
      if theirs != ours:
        raise errors.UserError(
          f"evaluate: data {getattr(found, 'name', found)!r} has"
          f" {key}={theirs!r}; this run's model was made for {ours!r}."
        )
  try:
    return splits.evaluated_on(found, split)
  except errors.UserError as error:
    raise type(error)(f"evaluate: split={split!r}: {error}") from error


def metrics(
  asked: Iterable[Asked], opened: reopen.Opened, data: Any
) -> tuple[Metric, ...]:
  """The metrics that are asked for and not measured anyway.

  Args:
    asked: names, functions, or metrics.
    opened: the run; it has metrics of its own.
    data: the data set.

  Raises:
    UserError: none of these, one that does not fit the data, or another one of
      a name that is taken.
  """
  means = opened.recipe.make_objective(opened.hyper).means
  found = list(opened.recipe.metrics)
  for each in (asked,) if isinstance(asked, str) else asked:
    metric = _metric(each)
    if metric in [known.unbound for known in found]:
      continue
    taken = {objectives.WEIGHT, *means, *(other.name for other in found)}
    if metric.name in taken:
      raise errors.UserError(
        f"evaluate: metrics has {each!r}, called {metric.name!r}; that name is"
        f" taken, as are {', '.join(sorted(taken - {metric.name}))}."
        " normjax.metrics.Metric(name, function) gives it another."
      )
    found.append(metric.on(data))
  return tuple(found[len(opened.recipe.metrics) :])


def _metric(asked: Asked) -> Metric:
  if isinstance(asked, str):
    return get_metric(asked)
  if isinstance(asked, Metric):
    return asked
  if callable(asked):
    return Metric(getattr(asked, "__name__", type(asked).__name__), asked)
  raise errors.UserError(
    f"evaluate: metrics has {asked!r}; allowed: names, functions, Metric."
  )


def options(
  config: configure.ConfigDict, num_batches: int | None
) -> configure.ConfigDict:
  """The block `evaluate`, with another `num_batches` unless that is None.

  Raises:
    UserError: a number of batches that the config could not have.
  """
  block = config.evaluate
  if num_batches is None:
    return block
  if problem := fields.FIELDS["evaluate.num_batches"].problem(num_batches):
    raise errors.UserError(f"evaluate: num_batches={num_batches!r} {problem}.")
  block = block.copy_and_resolve_references()
  block.num_batches = num_batches
  return block
