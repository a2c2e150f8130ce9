"""Test-time adaptation of a run, with a record of its own.

<run>/adapt/<id>/    run.json, metrics.jsonl, status.json, result.json
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from normjax import configure, faults
from normjax.adapt import loop, protocol, sources
from normjax.data import splits
from normjax.record import comparison, lock, provenance
from normjax.record.directory import RunDirectory
from normjax.record.recorder import Recorder
from normjax.record.state import RunState
from normjax.registry import parse_call
from normjax.runs import evaluation
from normjax.runs.reading import ADAPTED
from normjax.runs.run import Run

_MOST_COLUMNS = 6  # Of a report, for domains.


def adapt_run(
  run: Run,
  method: str,
  *,
  how: protocol.Protocol,
  corrupted_by: Iterable[str] = ("common",),
  severity: int = 5,
  data: Any = None,
  split: str = splits.VALIDATION,
  num_examples: int | None = None,
  out: Path | None = None,
) -> dict[str, Any]:
  """Predicts a corrupted stream with a run's model, adapting on the way.

  Args:
    run: of `load_run`; nothing of it is changed.
    method: of `normjax.adapt`: "name" or "name(option=value, …)".
    how: the stream.
    corrupted_by: the domains: "<kind>_<severity>", a kind, "common", "all", or
      "clean" for the images as they are.
    severity: of the entries that name none.
    data: None, the run's own; "name" or "name(option=value, …)"; a mapping
      with "name", or a data set. One that brings its corrupted images, as
      cifar10_corrupted (its `split` "test"), gives those.
    split: of the data set.
    num_examples: at most so many of each domain; None: all.
    out: holds the folder of the record; None: "adapt" in the run's.

  Returns:
    What `result.json` holds: `metrics` has "eval/accuracy", that of each
    domain as "eval/accuracy/<name>", and their means. Where a loss is not
    finite its `state` is "diverged", as of a training run; NaN is no right
    answer. A result that is there already is returned as it is; a stream that
    was cut short begins again, which its run.json notes.

  Raises:
    UserError: a method, a domain, data or a class that does not fit.
    BusyRunError: another process writes the same record.
  """
  sources.check(run.model, run.data)
  own = data
  if isinstance(data, str):
    name, options = parse_call("data", data)
    own = {"name": name, **options}
  is_corrupted = _has_corruptions(run, own)
  names = sources.domain_names(corrupted_by, severity, is_corrupted)
  asked = {
    "step": run.step,
    "method": method,
    "stream": vars(how),
    "domains": list(names),
    "data": dict(own) if isinstance(own, Mapping) else None,
    "split": split,
    "num_examples": num_examples,
  }
  config = run.config.copy_and_resolve_references()
  with config.unlocked():
    config[ADAPTED] = configure.ConfigDict(asked)
  # What its rows are: one per batch, and one of all at the end.
  config.log.every_steps, config.evaluate.every_steps = 1, 0
  run_id = configure.run_id(config)
  files = RunDirectory((out or run.directory / ADAPTED) / run_id, run_id)
  if (found := files.read_result().value) is not None:
    return found
  # All that may be wrong, before there is a folder.
  made = sources.adapter(
    method,
    run.model,
    run.data,
    lambda: sources.training_batches(run.data, int(run.config.seed)),
  )
  datasets = {
    name: _domain(run, own, split, name, is_corrupted) for name in names
  }
  faults.make_folder(files.path)
  with lock.held(files.path, "run"):
    # Another process may have ended it before the lock was free.
    if (found := files.read_result().value) is not None:
      return found
    domains = {
      name: protocol.gather(each, num_examples)
      for name, each in datasets.items()
    }
    facts = {
      "of": run.run_id,
      "seen": made.seen,
      "split": split,
      comparison.MEASURE: _measure(names).to_json(),
    }
    return _recorded(files, config, made, domains, how, facts)


def _measure(names: Sequence[str]) -> comparison.Measure:
  """The accuracy over all; beside it that of each domain, if they are few."""
  told = [f"accuracy/{name}" for name in names]
  if len(told) > _MOST_COLUMNS:
    told = [name for name in told if name.endswith(f"/{sources.CLEAN}")]
    told = ["mean_corrupted_accuracy", *told]
  others = tuple(f"eval/{name}" for name in (*told, "loss"))
  return comparison.Measure("eval/accuracy", "max", others)


def _has_corruptions(run: Run, own: Any) -> bool:
  """Whether a data set brings its corrupted images, one kind per config."""
  if not isinstance(own, Mapping):
    return False
  changes = {f"data.{key}": value for key, value in own.items()}
  return "corruption" in configure.override(run.config, changes).data


def _domain(
  run: Run, own: Any, split: str, name: str, is_corrupted: bool
) -> Any:
  """The data set of a domain."""
  if is_corrupted and name != "clean":
    own, name = {**own, "corruption": name}, "clean"
  return sources.domain(
    evaluation.dataset(run.config, run.data, own, split), name
  )


def _recorded(
  files: RunDirectory,
  config: configure.ConfigDict,
  made: Any,
  domains: Mapping[str, protocol.Examples],
  how: protocol.Protocol,
  facts: Mapping[str, Any],
) -> dict[str, Any]:
  """Runs the loop; a record that was cut short begins again."""
  before = files.read_status().value
  cut_short = before is not None and not RunState(before["state"]).over
  size = sum(len(each.targets) for each in domains.values())
  recorder = Recorder(
    files, config, writes=True, num_steps=-(-size // how.batch_size)
  )
  ended, message = RunState.INTERRUPTED, ""
  try:
    recorder.begin(
      0,
      resumed=False,
      seconds={},
      sizes={},
      facts={"provenance": provenance.collect(), **facts},
      problems=("it was cut short, and began again",) if cut_short else (),
    )
    last, diverged_at = 0, None

    def observe(score: loop.Score) -> None:
      nonlocal last, diverged_at
      last = score.step  # A row has the number of steps before it.
      if diverged_at is None and not np.isfinite(score.loss).all():
        diverged_at = last - 1
      means = {
        "loss": float(score.loss.mean(dtype=np.float64)),
        "accuracy": float(score.correct.mean()),
      }
      recorder.train(score.step - 1, means)

    with recorder.clock.measure("train"):
      totals, _ = loop.run(made, domains, how, observe)
    means = totals.means()
    means |= sources.summary(means, domains)
    recorder.evaluation(last, means, totals.num_examples)
    recorder.finish(last, diverged_at, None)
    assert recorder.result is not None
    return recorder.result
  except BaseException as error:
    if not isinstance(error, KeyboardInterrupt):
      ended, message = RunState.FAILED, str(error)
    recorder.stop(ended, message)
    raise
  finally:
    recorder.close()
